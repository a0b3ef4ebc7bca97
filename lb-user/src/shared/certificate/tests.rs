//! What may replace a certificate, and what becomes of the generation by it.

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::*;
use crate::config::cluster_of;

/// 2026-11-24.
const NOW: WallTime = WallTime::from_unix_ms(1_795_523_467_000);

/// A certificate and its key, PEM.
struct Issued {
    chain: String,
    key: String,
}

fn issued(names: &[&str], from: i32, to: i32) -> Issued {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut parameters = CertificateParams::new(names).unwrap();
    (parameters.not_before, parameters.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
    let key = KeyPair::generate().unwrap();
    Issued { chain: parameters.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

const BOTH: [&str; 2] = ["mail.example.test", "autodiscover.example.test"];

fn cluster() -> Cluster {
    let text = "[cluster]\nip = \"192.168.50.8/24\"\nmode = \"unicast\"\n\
                [[node]]\nname = \"arr1\"\naddress = \"192.168.50.6\"\npriority = 1\n\
                [exchange]\nnames = [\"mail.example.test\", \"autodiscover.example.test\"]\nservers = [\"10.0.0.36\"]\n\
                certificate = \"/root/mail.pfx\"\npassword_file = \"/root/mail.password\"\n\
                [[farm]]\nname = \"web\"\nverify = \"none\"\nservers = [\"10.0.0.40\"]\n\
                [[site]]\nnames = [\"www.example.test\"]\ncertificate = \"/root/www.pem\"\nkey = \"/root/www.key\"\nfarm = \"web\"\n";
    cluster_of(text.as_bytes(), Path::new("test")).unwrap_or_else(|errors| panic!("{errors}"))
}

fn secrets(mail: &Issued, www: &Issued) -> Secrets {
    let bytes = |text: &str| Bytes(text.as_bytes().to_vec());
    let files = [
        ("/root/mail.pfx", format!("{}{}", mail.chain, mail.key)),
        ("/root/mail.password", "word".to_owned()),
        ("/root/www.pem", www.chain.clone()),
        ("/root/www.key", www.key.clone()),
    ];
    let files = files.iter().map(|(path, text)| ((*path).to_owned(), bytes(text))).collect();
    Secrets { cluster: "00".repeat(32), epoch: 1, files }
}

/// As one file.
fn whole(issued: &Issued) -> NewFiles {
    let bytes = format!("{}{}", issued.key, issued.chain).into_bytes();
    NewFiles { certificate: ("/etc/new.pem".into(), bytes), key: None, password: String::new(), ocsp: None }
}

/// As two.
fn apart(certificate: &Issued, key: &Issued) -> NewFiles {
    let certificate = ("/etc/new.pem".into(), certificate.chain.clone().into_bytes());
    let key = Some(("/etc/new.key".into(), key.key.clone().into_bytes()));
    NewFiles { certificate, key, password: String::new(), ocsp: None }
}

#[test]
fn the_new_one_stands_where_the_old_one_did_and_nothing_else_is_touched() {
    let (cluster, before) =
        (cluster(), secrets(&issued(&BOTH, 2025, 2027), &issued(&["www.example.test"], 2025, 2027)));
    let new = issued(&BOTH, 2026, 2028);
    let replaced = replaced(&cluster, &before, "AutoDiscover.example.test", &apart(&new, &new), NOW).unwrap();
    let mut expected = before.clone();
    let served = config::certificates::served(&cluster, &held(&replaced.secrets));
    let mail = served.iter().find(|of| of.file == Path::new("/root/mail.pfx")).unwrap();
    assert_eq!(mail.facts.sha256.to_string(), replaced.new.fingerprint);
    assert_eq!(replaced.old.as_ref().unwrap().names, BOTH);
    assert_ne!(replaced.old.unwrap().fingerprint, replaced.new.fingerprint);
    assert_eq!(
        (replaced.new.names, replaced.new.same_on),
        (BOTH.map(str::to_owned).to_vec(), vec!["exchange".to_owned()])
    );
    assert!(replaced.remarks[0].contains("same-certificate"), "{:?}", replaced.remarks);
    let changed = replaced.secrets.files.get("/root/mail.pfx").unwrap().clone();
    expected.files.insert("/root/mail.pfx".to_owned(), changed);
    assert_eq!(replaced.secrets, expected);
}

#[test]
fn a_site_with_a_key_file_gets_its_key_there() {
    let (cluster, before) =
        (cluster(), secrets(&issued(&BOTH, 2025, 2027), &issued(&["www.example.test"], 2025, 2027)));
    let new = issued(&["*.example.test"], 2026, 2028);
    let replaced = replaced(&cluster, &before, "www.example.test", &whole(&new), NOW).unwrap();
    let text = |path: &str| String::from_utf8(replaced.secrets.files[path].0.clone()).unwrap();
    assert!(text("/root/www.pem").contains("CERTIFICATE") && !text("/root/www.pem").contains("PRIVATE KEY"));
    assert!(text("/root/www.key").contains("PRIVATE KEY"));
    assert_eq!(replaced.remarks, [] as [&str; 0], "its servers need none");
}

#[test]
fn the_same_certificate_and_key_are_no_change_however_they_are_written() {
    let mail = issued(&BOTH, 2025, 2027);
    let (cluster, before) = (cluster(), secrets(&mail, &issued(&["www.example.test"], 2025, 2027)));
    for files in [whole(&mail), apart(&mail, &mail)] {
        assert_eq!(replaced(&cluster, &before, "mail.example.test", &files, NOW).unwrap().secrets, before);
    }
}

#[test]
fn what_does_not_fit_is_refused_and_told_apart() {
    let (cluster, before) =
        (cluster(), secrets(&issued(&BOTH, 2025, 2027), &issued(&["www.example.test"], 2025, 2027)));
    let (good, other) = (issued(&BOTH, 2026, 2028), issued(&BOTH, 2026, 2028));
    let rows: [(&str, NewFiles, &str); 6] = [
        ("mail.example.test", apart(&good, &other), "belongs to none of the certificates"),
        ("mail.example.test", whole(&issued(&BOTH[..1], 2026, 2028)), "is not for autodiscover.example.test"),
        ("mail.example.test", whole(&issued(&BOTH, 2025, 2026)), "expired at 2026-01-01"),
        ("mail.example.test", whole(&issued(&BOTH, 2027, 2028)), "is valid from 2027-01-01"),
        ("owa.example.test", whole(&good), "hint: the sites are: mail.example.test, www.example.test"),
        ("mail.example.test", NewFiles { ocsp: Some(vec![1]), ..whole(&good) }, "staples no OCSP response"),
    ];
    for (site, files, expected) in rows {
        let refused = replaced(&cluster, &before, site, &files, NOW).unwrap_err().to_string();
        assert!(refused.contains(expected), "{expected}: {refused}");
        assert!(refused.contains("; hint: "), "{refused}");
    }
}
