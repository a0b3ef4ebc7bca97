//! `rollcall remove`: takes another node out of the cluster, with a cluster secret that it does not know, and says what else it has known.
//!
//! With `--json` one object on one line: [`Removed`].

use super::ask::{patiently, unexpected};
use super::config::{Change, course};
use super::confirm::Consent;
use super::{Place, output};
use crate::control::api::{Answer, Configure, FileFacts, Removed, Request};

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The node
    node: String,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let Args { node, change, consent, place } = args;
    consent.ask(&format!("{node} leaves the cluster for good: it comes back only by joining anew"))?;
    let wanted = Configure::Remove { node, comment: change.comment };
    let answer = patiently(&place.run_dir, &Request::Configuration(wanted))?;
    let Answer::Removed(removed) = answer else { return Err(unexpected(answer)) };
    if change.json {
        output::line(&serde_json::to_string(&removed)?);
        return Ok(());
    }
    print(*removed);
    Ok(())
}

fn print(removed: Removed) {
    let Removed { node, told, applied, known } = removed;
    let id: String = applied.generation.chars().take(12).collect();
    output::line(&format!("{node} is no node of the cluster any more: generation {id} is in force"));
    course(&applied).iter().for_each(|line| output::line(line));
    output::line(&if told {
        format!("  {node} knows, hands its share over, lets its connections end, and stops")
    } else {
        format!(
            "  {node} was not reached: see that its agent stays off; if its host is gone for good: rollcall forget {node}"
        )
    });
    output::line(&format!(
        "  heartbeats are sealed with a new key once {node} is gone; `rollcall status` says who is waited for"
    ));
    for line in exposed(&node, &known) {
        output::line(&line);
    }
}

/// What a node has known that the change does not make worthless.
fn exposed(node: &str, known: &[FileFacts]) -> Vec<String> {
    if known.is_empty() {
        return vec![format!("{node} has known no TLS key and no password of this configuration")];
    }
    let mut lines =
        vec![format!("{node} has known all of this; if others may have that host, have new ones made:")];
    for FileFacts { path, certificate, .. } in known {
        let Some(certificate) = certificate else {
            lines.push(format!("  {path}"));
            continue;
        };
        let end = certificate.not_after.map_or("?".to_owned(), |end| end.local());
        lines.push(format!("  {path}: the certificate of {} and its TLS key", certificate.sites.join(", ")));
        lines.push(format!("    for {}, until {end}", certificate.names.join(", ")));
        lines.push(format!("    {}", certificate.fingerprint));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::CertificateFacts;

    #[test]
    fn every_secret_that_a_node_has_known_is_named_and_certificates_by_site_and_fingerprint() {
        let file = |path: &str, certificate| FileFacts {
            path: path.to_owned(),
            bytes: 3,
            digest: String::new(),
            certificate,
        };
        let certificate = CertificateFacts {
            sites: vec!["mail.example.test".to_owned()],
            names: vec!["mail.example.test".to_owned(), "autodiscover.example.test".to_owned()],
            not_after: None,
            fingerprint: "ab:cd".to_owned(),
        };
        let known = [file("/root/mail.pfx", Some(certificate)), file("/root/mail.password", None)];
        let lines = exposed("arr3", &known);
        assert_eq!(
            lines[1..],
            [
                "  /root/mail.pfx: the certificate of mail.example.test and its TLS key",
                "    for mail.example.test, autodiscover.example.test, until ?",
                "    ab:cd",
                "  /root/mail.password"
            ]
        );
        assert_eq!(exposed("arr3", &[]), ["arr3 has known no TLS key and no password of this configuration"]);
    }
}
