//! The files of `testdata/tls` read; `make.sh` there tells how they were made.

use proptest::prelude::*;

use super::*;
use crate::proxy::tls::{certificates, certified_key};

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/testdata/tls/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn der(name: &str) -> CertificateDer<'static> {
    certificates(&String::from_utf8(bytes(name)).unwrap()).unwrap().remove(0)
}

/// Reads the files, each a concatenation of those that `+` joins.
fn read(files: &[&str], password: &str) -> Result<Material, MaterialError> {
    let contents: Vec<Vec<u8>> = files.iter().map(|file| file.split('+').flat_map(bytes).collect()).collect();
    let files = files.iter().zip(&contents);
    Material::read(&files.map(|(name, bytes)| File { name, bytes }).collect::<Vec<_>>(), password)
}

fn assert_is_the_sites(material: &Material, what: &str) {
    assert_eq!(material.chain(), [der("site.crt"), der("issuing.crt")], "{what}");
    assert_eq!(material.facts().subject, "O=Example, CN=mail.example.test", "{what}");
    let key = certified_key(&material.chain_pem(), material.key_pem().pem()).unwrap();
    assert_eq!(key.cert, material.chain(), "{what}");
    assert!(material.key_pem().pem().starts_with("-----BEGIN PRIVATE KEY-----\n"), "{what}");
}

#[test]
fn pem_is_read_in_any_order_and_from_any_number_of_files() {
    for files in [
        &["site.crt+issuing.crt+root.crt", "site.pkcs8.key"][..],
        &["root.crt+issuing.crt+site.crt", "site.pkcs1.key"],
        &["issuing.crt+site.pkcs8.key+site.crt"],
        &["site.pkcs8.key", "site.crt", "issuing.crt", "root.crt"],
        &["site.pkcs1.key+site.pkcs8.key+site.crt+issuing.crt+site.crt", "site.pkcs8.key+issuing.crt"],
    ] {
        let material = read(files, "").unwrap();
        assert_is_the_sites(&material, &format!("{files:?}"));
        assert_eq!(material.warnings(), [], "{files:?}");
    }
}

#[test]
fn windows_line_ends_marks_and_single_der_certificates_are_read() {
    let text = String::from_utf8([bytes("site.crt"), bytes("site.pkcs8.key")].concat()).unwrap();
    let text = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    let issuing = der("issuing.crt");
    let files = [File { name: "a", bytes: text.as_bytes() }, File { name: "b", bytes: &issuing }];
    assert_is_the_sites(&Material::read(&files, "").unwrap(), "Windows");
}

#[test]
fn an_elliptic_key_becomes_pkcs8() {
    let material = read(&["ec.crt", "ec.sec1.key"], "").unwrap();
    assert_eq!(material.chain(), [der("ec.crt")]);
    assert!(certified_key(&material.chain_pem(), material.key_pem().pem()).is_ok());
}

#[test]
fn pkcs12_is_read_as_windows_exports_it() {
    for (file, password) in [
        ("rc2-40.pfx", "secret"),
        ("rc2-40-empty.pfx", ""),
        ("tripledes-sha1.pfx", "secret"),
        ("aes256-sha256.pfx", "pässwörd"),
        ("aes256-sha256-empty.pfx", ""),
        ("unencrypted.pfx", "secret"),
    ] {
        let material = read(&[file], password).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_is_the_sites(&material, file);
        let unrelated = MaterialWarning::Unrelated(Facts::of(&der("unrelated.crt")));
        assert_eq!(material.warnings(), [unrelated], "{file}");
    }
    // One file for both settings.
    assert_is_the_sites(&read(&["rc2-40.pfx", "rc2-40.pfx"], "secret").unwrap(), "twice");
}

#[test]
fn each_thing_that_can_be_wrong_has_its_own_error() {
    let file = || "FILE".to_owned();
    for (name, password, expected) in [
        ("site.crt", "", MaterialError::NoKey),
        ("without-key.pfx", "secret", MaterialError::NoKey),
        ("site.pkcs8.key", "", MaterialError::NoCertificate),
        ("without-certificate.pfx", "secret", MaterialError::NoCertificate),
        ("issuing.crt+site.pkcs8.key", "", MaterialError::Mismatch),
        ("version1.crt+site.pkcs8.key", "", MaterialError::UnusableCertificate),
        ("site.crt+site.pkcs8.key+ec.sec1.key", "", MaterialError::TwoKeys { file: file() }),
        ("site.crt+site.encrypted.key", "", MaterialError::EncryptedKey { file: file() }),
        ("site.crt+site.traditional-encrypted.key", "", MaterialError::EncryptedKey { file: file() }),
        ("rc2-40.pfx", "wrong", MaterialError::WrongPassword { file: file() }),
        ("rc2-40.pfx", "", MaterialError::WrongPassword { file: file() }),
        ("aes256-sha256.pfx", "passwörd", MaterialError::WrongPassword { file: file() }),
        ("unencrypted.pfx", "wrong", MaterialError::WrongPassword { file: file() }),
        ("without-mac.pfx", "secret", MaterialError::NoMac { file: file() }),
        ("slow.pfx", "secret", MaterialError::TooSlow { file: file() }),
        ("good.ocsp", "", MaterialError::Damaged { file: file() }),
        ("make.sh", "", MaterialError::Damaged { file: file() }),
    ] {
        let contents: Vec<u8> = name.split('+').flat_map(bytes).collect();
        let error = Material::read(&[File { name: "FILE", bytes: &contents }], password).unwrap_err();
        assert_eq!(error, expected, "{name}");
        assert!(error.to_string().contains("; hint: "), "{error}");
    }
}

#[test]
fn files_and_what_they_hold_are_bounded() {
    let limit = |bytes: &[u8]| {
        let error = Material::read(&[File { name: "FILE", bytes }], "").unwrap_err();
        let (MaterialError::TooLong { limit, .. } | MaterialError::TooMany { limit, .. }) = error else {
            panic!("{error}");
        };
        limit
    };
    assert_eq!(limit(&vec![0x30; LONGEST_FILE + 1]), LONGEST_FILE);
    let long_pkcs12 = [b"\x30\x83\x02\x00\x00".to_vec(), vec![0; 131_072]].concat();
    assert_eq!(limit(&long_pkcs12), 65_536);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = |serial: u64| {
        let mut parameters = rcgen::CertificateParams::new(["mail.example.test".to_owned()]).unwrap();
        parameters.serial_number = Some(serial.into());
        parameters.self_signed(&key).unwrap().pem()
    };
    let many: String = (1..=65).map(certificate).collect();
    assert_eq!(limit(many.as_bytes()), 64);
}

#[test]
fn an_unusable_key_is_named() {
    let garbage = pem_text("PRIVATE KEY", b"\x30\x00");
    let error = Material::read(&[File { name: "FILE", bytes: garbage.as_bytes() }], "").unwrap_err();
    assert_eq!(error, MaterialError::UnusableKey { file: "FILE".to_owned() });
    let cut = "-----BEGIN CERTIFICATE-----\nMIIB\n";
    let error = Material::read(&[File { name: "FILE", bytes: cut.as_bytes() }], "").unwrap_err();
    assert_eq!(error, MaterialError::Damaged { file: "FILE".to_owned() });
}

#[test]
fn of_two_certificates_for_the_key_the_later_one_counts_whatever_their_order() {
    let key = rcgen::KeyPair::generate().unwrap();
    let until = |year| {
        let mut parameters = rcgen::CertificateParams::new(["mail.example.test".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
        parameters.self_signed(&key).unwrap()
    };
    let (old, new) = (until(2027), until(2028));
    for pem in [old.pem() + &new.pem(), new.pem() + &old.pem()] {
        let pem = pem + &key.serialize_pem();
        let material = Material::read(&[File { name: "FILE", bytes: pem.as_bytes() }], "").unwrap();
        assert_eq!(material.chain(), [new.der().clone()]);
        assert_eq!(material.warnings(), [MaterialWarning::Unrelated(Facts::of(old.der()))]);
    }
}

/// A certificate authority, or a site that one signs.
struct Party {
    parameters: rcgen::CertificateParams,
    key: rcgen::KeyPair,
}

impl Party {
    fn new(name: &str) -> Self {
        let mut parameters = rcgen::CertificateParams::default();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        parameters.use_authority_key_identifier_extension = true;
        Self { parameters, key: rcgen::KeyPair::generate().unwrap() }
    }

    fn root(&self) -> rcgen::Certificate {
        self.parameters.self_signed(&self.key).unwrap()
    }

    fn by(&self, issuer: &Self) -> rcgen::Certificate {
        self.parameters
            .signed_by(&self.key, &rcgen::Issuer::from_params(&issuer.parameters, &issuer.key))
            .unwrap()
    }

    /// The chain and the strangers, which must be the same from first to last and from last to first.
    fn sorted(&self, certificates: &[&rcgen::Certificate]) -> (Vec<CertificateDer<'static>>, usize) {
        let read = |pem: Vec<String>| {
            let pem = self.key.serialize_pem() + &pem.concat();
            let material = Material::read(&[File { name: "FILE", bytes: pem.as_bytes() }], "").unwrap();
            (material.chain().to_vec(), material.warnings().len())
        };
        let forwards = read(certificates.iter().map(|certificate| certificate.pem()).collect());
        let backwards = read(certificates.iter().rev().map(|certificate| certificate.pem()).collect());
        assert_eq!(forwards, backwards);
        forwards
    }
}

#[test]
fn authorities_that_name_each_other_make_no_endless_chain() {
    let (a, b, site) = (Party::new("a"), Party::new("b"), Party::new("site"));
    let (site_by_a, a_by_b, b_by_a) = (site.by(&a), a.by(&b), b.by(&a));
    let (chain, strangers) = site.sorted(&[&site_by_a, &a_by_b, &b_by_a]);
    let expected = [&site_by_a, &a_by_b, &b_by_a].map(|certificate| certificate.der().clone());
    assert_eq!((chain.as_slice(), strangers), (&expected[..], 0));
}

#[test]
fn of_authorities_with_the_same_name_the_one_with_the_issuers_key_counts() {
    let (root, site) = (Party::new("root"), Party::new("site"));
    let (old, new) = (Party::new("issuing"), Party::new("issuing"));
    let (leaf, by_old, by_new) = (site.by(&new), old.by(&root), new.by(&root));
    let (chain, strangers) = site.sorted(&[&leaf, &by_old, &by_new, &root.root()]);
    assert_eq!((chain, strangers), (vec![leaf.der().clone(), by_new.der().clone()], 1));
}

#[test]
fn a_cross_signed_authority_is_sent_instead_of_its_root_and_neither_root_is_a_stranger() {
    let (young, old, site) = (Party::new("young root"), Party::new("old root"), Party::new("site"));
    let (leaf, cross) = (site.by(&young), young.by(&old));
    let (chain, strangers) = site.sorted(&[&leaf, &young.root(), &cross, &old.root()]);
    assert_eq!((chain, strangers), (vec![leaf.der().clone(), cross.der().clone()], 0));
    // Without the cross-signed one the leaf goes alone.
    assert_eq!(site.sorted(&[&leaf, &young.root()]), (vec![leaf.der().clone()], 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_damaged_pkcs12_never_panics_and_is_never_the_sites(at: prop::sample::Index, flip in 1..=255_u8) {
        let good = bytes("rc2-40-empty.pfx");
        let mut damaged = good.clone();
        let at = at.index(good.len());
        damaged[at] ^= flip;
        // Some bytes say nothing, as those of the MAC's algorithm parameters.
        if let Ok(material) = Material::read(&[File { name: "FILE", bytes: &damaged }], "") {
            prop_assert_eq!(material.chain()[0].clone(), der("site.crt"));
        }
    }

    #[test]
    fn no_bytes_from_outside_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), pem: bool) {
        let begin: &[u8] = if pem { b"-----BEGIN CERTIFICATE-----\n" } else { b"" };
        let bytes = [begin, &bytes].concat();
        let read = Material::read(&[File { name: "FILE", bytes: &bytes }], "");
        prop_assert!(read.is_err());
    }
}
