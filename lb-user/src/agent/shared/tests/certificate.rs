//! A site's certificate, replaced on one node and served by all.

use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::control::api::{CertificateSet, Shown};

const NAME: &str = "mail.example.test";

/// A new certificate for these names with its key, in a file.
fn issue(world: &World, file: &str, names: &[&str]) -> PathBuf {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let path = world.folder.join(file);
    fs::write(&path, certificate.pem() + &key.serialize_pem()).unwrap();
    path
}

/// Three nodes that publish Exchange.
async fn publishing() -> World {
    let world = World::of(3).await;
    let certificate = issue(&world, "mail.pem", &[NAME]);
    let text = world.node("arr1").show(None).await.unwrap().text;
    let text = format!(
        "{text}\n[exchange]\nnames = [\"{NAME}\"]\nservers = [\"10.0.0.36\"]\ncertificate = {certificate:?}\n"
    );
    let path = world.folder.join("publishing.toml");
    fs::write(&path, text).unwrap();
    world.apply("arr1", &path, None).await.unwrap();
    // Nobody reads it from the disk again.
    fs::remove_file(certificate).unwrap();
    world
}

async fn set(world: &World, node: &str, certificate: &Path, dry_run: bool) -> Result<CertificateSet, String> {
    let wanted = Configure::SetCertificate {
        site: NAME.to_owned(),
        certificate: certificate.to_owned(),
        key: None,
        password_file: None,
        ocsp: None,
        comment: String::new(),
        dry_run,
        canary: None,
    };
    let answer = world.node(node).answer(wanted).await;
    if let Answer::Error { text } | Answer::Invalid { text } = answer {
        return Err(text);
    }
    let Answer::CertificateSet(set) = answer else { panic!("{answer:?}") };
    Ok(*set)
}

async fn shown(world: &World, node: &str) -> Shown {
    world.node(node).show(None).await.unwrap()
}

fn fingerprint(shown: &Shown) -> String {
    shown.files[0].certificate.as_ref().unwrap().fingerprint.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_set_on_one_node_is_all_nodes_and_the_text_stays_as_it_was() {
    let world = publishing().await;
    let before = shown(&world, "arr3").await;
    let new = issue(&world, "new.pem", &[NAME]);
    let looked = set(&world, "arr2", &new, true).await.unwrap();
    assert!(looked.applied.unwrap().dry_run);
    assert_eq!(shown(&world, "arr2").await, before);
    let done = set(&world, "arr2", &new, false).await.unwrap();
    assert_eq!(done.applied.unwrap().on.len(), 2);
    assert_eq!(done.old.unwrap().fingerprint, fingerprint(&before));
    for node in ["arr1", "arr2", "arr3"] {
        let after = shown(&world, node).await;
        assert_eq!(
            (after.text.as_str(), fingerprint(&after)),
            (before.text.as_str(), done.new.fingerprint.clone())
        );
        assert_eq!(after.entry.comment, format!("new certificate of {NAME}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_certificate_again_makes_no_generation() {
    let world = publishing().await;
    let new = issue(&world, "new.pem", &[NAME]);
    set(&world, "arr1", &new, false).await.unwrap();
    let before = shown(&world, "arr1").await;
    let again = set(&world, "arr3", &new, false).await.unwrap();
    assert_eq!((again.applied, again.new.fingerprint), (None, fingerprint(&before)));
    assert_eq!(shown(&world, "arr3").await.entry.id, before.entry.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_other_names_and_one_that_a_node_objects_to_change_nothing() {
    let world = publishing().await;
    let before = shown(&world, "arr1").await;
    let other = issue(&world, "other.pem", &["www.example.test"]);
    let refused = set(&world, "arr1", &other, false).await.unwrap_err();
    assert!(refused.contains(&format!("is not for {NAME}")), "{refused}");
    let missing = set(&world, "arr1", &world.folder.join("missing.pem"), false).await.unwrap_err();
    assert!(missing.contains("cannot read ") && missing.contains("missing.pem"), "{missing}");
    let drain = world.served["arr2"].0.lock().unwrap().drain_timeout;
    world.served["arr2"].0.lock().unwrap().objects_to = drain;
    let new = issue(&world, "new.pem", &[NAME]);
    let refused = set(&world, "arr1", &new, false).await.unwrap_err();
    assert!(refused.contains("arr2: "), "{refused}");
    for node in ["arr1", "arr2", "arr3"] {
        assert_eq!(shown(&world, node).await.entry.id, before.entry.id);
    }
}
