//! Imports of whole files, one folder each in `iis/`: what they come to, what is reported, that what is complete passes the check, and that
//! requests are treated as IIS documents. `UPDATE_GOLDEN=1` writes what is expected anew; read the difference before it is committed.
//!
//! In a folder: `applicationHost.config`, `administration.config`, `configEncKey.key`; `nlb*.txt`: what NLB's tools printed; `hosts`: names
//! and addresses; `certificates.txt`: certificates that there would be; `args.txt`: `as-is` or `exchange`; `requests.txt`: requests and what
//! becomes of them; `expected.toml`, `expected.report.txt`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics, in its helpers too")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use lb_user::config::cluster_of;
use lb_user::config::model::{Cluster, Site};
use lb_user::iis::ledger::Became;
use lb_user::iis::map::{Certificate, Known, Shape};
use lb_user::iis::{File, Imported, Sources, hosts, import, text, xml};
use lb_user::proxy::http1::{Head, HeadLimits};
use lb_user::proxy::policy::{Decision, Facts, FarmNames, Policy};

#[test]
fn each_file_comes_to_what_is_expected() {
    for folder in folders() {
        let imported = imported(&folder);
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        compare(&folder.join("expected.toml"), &imported.configuration);
        let report = imported.report.text();
        assert!(!report.to_lowercase().contains("secret0"), "{name}: a secret is told");
        assert!(!imported.configuration.contains("sEcReT"), "{name}: a secret is told");
        let complete = if imported.is_complete() { "complete\n\n" } else { "NOT COMPLETE\n\n" };
        compare(&folder.join("expected.report.txt"), &format!("{complete}{report}"));
    }
}

#[test]
fn what_is_complete_or_only_lacks_what_was_refused_passes_the_check() {
    let mut complete = 0;
    for folder in folders() {
        let imported = imported(&folder);
        if imported.report.blanks.is_empty() {
            cluster(&folder, &imported);
            complete += usize::from(imported.is_complete());
        } else {
            let text = imported.configuration.as_bytes();
            let checked = cluster_of(text, Path::new("cluster.toml"));
            assert!(checked.is_err(), "{}: a blank passes the check", folder.display());
        }
    }
    assert!(complete >= 8, "only {complete} are complete");
}

#[test]
fn requests_are_treated_as_iis_documents() {
    let mut replayed = 0;
    for folder in folders() {
        let requests = fs::read_to_string(folder.join("requests.txt")).unwrap_or_default();
        let requests = requests.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let requests: Vec<(&str, &str)> = requests.map(|line| line.split_once(" => ").unwrap()).collect();
        if requests.is_empty() {
            continue;
        }
        let cluster = cluster(&folder, &imported(&folder));
        for (request, wanted) in requests {
            let decided = decided(&cluster, request);
            assert_eq!(decided, wanted, "{}: {request}", folder.display());
            replayed += 1;
        }
    }
    assert!(replayed >= 60, "{replayed}");
}

#[test]
fn every_element_and_attribute_is_reported_once_with_its_line() {
    for folder in folders() {
        let bytes = fs::read(folder.join("applicationHost.config")).unwrap();
        let root = xml::parse(&text::decode(&bytes).unwrap()).unwrap();
        let mut lines = Vec::new();
        collect(&root, &mut lines);
        let imported = imported(&folder);
        let (_, findings) = &imported.report.files[0];
        let mut told: Vec<usize> = findings.iter().map(|finding| finding.line).collect();
        lines.sort_unstable();
        told.sort_unstable();
        assert_eq!(told, lines, "{}", folder.display());
    }
}

fn collect(element: &xml::Element, lines: &mut Vec<usize>) {
    lines.push(element.line);
    lines.extend(element.attributes.iter().map(|attribute| attribute.line));
    lines.extend(element.texts.iter().map(|(_, line)| *line));
    element.children.iter().for_each(|child| collect(child, lines));
}

fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/iis");
    let mut folders: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 15);
    folders
}

fn imported(folder: &Path) -> Imported {
    let read = |name: &str| fs::read(folder.join(name)).ok();
    let text = |name: &str| read(name).map(|bytes| String::from_utf8(bytes).unwrap()).unwrap_or_default();
    let names: BTreeSet<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let nlb: Vec<(String, Vec<u8>)> = names
        .iter()
        .filter(|name| name.starts_with("nlb"))
        .map(|name| (name.clone(), read(name).unwrap()))
        .collect();
    let host = read("applicationHost.config").unwrap();
    let administration = read("administration.config");
    let key = names.contains("configEncKey.key");
    let sources = Sources {
        host: Some(File { name: "applicationHost.config", bytes: &host }),
        administration: administration.as_ref().map(|bytes| File { name: "administration.config", bytes }),
        others: key
            .then(|| ("configEncKey.key", Became::unneeded("keys of encrypted values")))
            .into_iter()
            .collect(),
        nlb: nlb.iter().map(|(name, bytes)| File { name, bytes }).collect(),
    };
    let known = Known {
        nlb: None,
        hosts: hosts::read(&text("hosts")).unwrap(),
        certificates: text("certificates.txt").lines().map(certificate).collect(),
        shape: match text("args.txt").trim() {
            "as-is" => Shape::AsIs,
            "exchange" => Shape::Exchange,
            _ => Shape::Fitting,
        },
    };
    import(&sources, known).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
}

/// `PATH [password=FILE] [thumbprint=HEX] NAME..`
fn certificate(line: &str) -> Certificate {
    let mut words = line.split_whitespace();
    let mut certificate = Certificate { path: words.next().unwrap().to_owned(), ..Certificate::default() };
    for word in words {
        match word.split_once('=') {
            Some(("password", file)) => certificate.password_file = Some(file.to_owned()),
            Some(("thumbprint", digits)) => certificate.thumbprint = digits.to_owned(),
            _ => certificate.names.push(word.to_owned()),
        }
    }
    certificate
}

fn compare(path: &Path, text: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path, text).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert!(expected == text, "{}\n----- expected\n{expected}\n----- found\n{text}", path.display());
}

fn cluster(folder: &Path, imported: &Imported) -> Cluster {
    let checked = cluster_of(imported.configuration.as_bytes(), Path::new("cluster.toml"));
    checked.unwrap_or_else(|errors| panic!("{}: {errors}\n{}", folder.display(), imported.configuration))
}

/// What becomes of `METHOD URL [| Name: value]..`.
fn decided(cluster: &Cluster, request: &str) -> String {
    let mut parts = request.split(" | ");
    let (method, url) = parts.next().unwrap().split_once(' ').unwrap();
    let rest = url.strip_prefix("https://").unwrap();
    let (authority, target) = rest.split_at(rest.find('/').unwrap());
    let (host, port) =
        authority.split_once(':').map_or((authority, 443), |(host, port)| (host, port.parse().unwrap()));
    let fits = |site: &&Site| {
        site.listen.iter().any(|address| address.port() == port)
            && site
                .names
                .iter()
                .any(|name| name == host || name.strip_prefix('*').is_some_and(|rest| host.ends_with(rest)))
    };
    let Some(site) = cluster.sites.iter().find(fits) else {
        return "no site".to_owned();
    };
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
    parts.for_each(|field| text.push_str(&format!("{field}\r\n")));
    let mut head = Head::default();
    head.read_request(format!("{text}\r\n").as_bytes(), &HeadLimits::default()).unwrap();
    let policy = policy(cluster, site);
    let facts = Facts { head: &head, host, target, client: "203.0.113.5".parse().unwrap(), port };
    match policy.decide(facts) {
        Decision::Forward(forward) => format!("farm {} {}", cluster.farms[forward.farm].name, forward.target),
        Decision::Redirect { status, to, .. } => format!("redirect {status} {to}"),
        Decision::Respond { reply, .. } => format!("respond {}", reply.status),
        Decision::Refuse { status, .. } => format!("refuse {status}"),
        Decision::Abort { .. } => "abort".to_owned(),
    }
}

fn policy(cluster: &Cluster, site: &Site) -> Policy {
    let index = |name: String| cluster.farms.iter().position(|farm| farm.name == name).ok_or(());
    let names = cluster.farms.iter().map(|farm| FarmNames {
        name: farm.name.clone(),
        hosts: BTreeSet::new(),
        tests: farm.tests.iter().map(|test| test.name.clone()).collect(),
    });
    Policy::compile(&site.service.clone().try_map(index).unwrap(), names.collect()).unwrap()
}
