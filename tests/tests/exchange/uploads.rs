//! A POST of 20 MB whose logon is by NTLM: the server answers 401 while the upload is under way, and the connection has to
//! outlive that, or the logon can never end.

use std::fs;

use rollcall_tests::exchange::{DOMAIN, Exchange, told};
use rollcall_tests::lab::PUBLIC_NAME;
use rollcall_tests::sys::output;
use serde::Deserialize;

/// Exchange's own word for it is 20 MB.
pub(crate) const BYTES: usize = 20 << 20;

/// One request of a logon, as the program upload.py tells of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Leg {
    /// The status of what came before any of the body was sent; 0: nobody waited.
    pub(crate) first: u16,
    status: u16,
    challenge: String,
    user: String,
    connection: String,
    /// Whether the server has got all of the body.
    whole: bool,
    closes: bool,
}

#[test]
fn a_logon_ends_well_though_each_of_its_requests_uploads_20_mb() {
    let exchange = Exchange::start(1).unwrap();
    for chunked in [&[][..], &["--chunked"]] {
        for expect in [&[][..], &["--expect"]] {
            let options = [chunked, expect].concat();
            let mut upload = exchange.client("upload.py").unwrap();
            upload.args(["--bytes", &BYTES.to_string()]).args(&options);
            let legs: Vec<Leg> = told(&mut upload).unwrap();
            assert_logon(&legs, &exchange.users[0].name, &options);
        }
    }
    assert_eq!(exchange.tear_down(), Vec::<String>::new());
}

/// Without logon, first message, third message, and once more on the connection that is now logged on.
fn assert_logon(legs: &[Leg], user: &str, options: &[&str]) {
    let statuses: Vec<_> = legs.iter().map(|leg| leg.status).collect();
    assert_eq!(statuses, [401, 401, 200, 200], "{options:?}: {legs:#?}");
    assert!(!legs[1].challenge.is_empty(), "{options:?}: {legs:#?}");
    // Who waits to be told to go on is told, once somebody is logged on who may.
    let told = if options.contains(&"--expect") { 100 } else { 0 };
    for leg in &legs[2..] {
        assert_eq!(leg.first, told, "{options:?}: {legs:#?}");
        assert_eq!((leg.user.as_str(), leg.whole), (user, true), "{options:?}: {legs:#?}");
        assert_eq!(leg.connection, legs[2].connection, "{options:?}: {legs:#?}");
    }
    assert!(legs.iter().all(|leg| !leg.closes), "{options:?}: {legs:#?}");
}

/// With two ways allowed, curl first asks without any, and has its upload answered with 401.
const LOGONS: [&[&str]; 2] = [&["--ntlm"], &["--ntlm", "--digest"]];

/// Not both: curl 7.88 sends nothing of a chunked body after a 401 to Expect, not even its end, and goes on with the next request,
/// which no server can understand.
const HEADERS: [&[&str]; 3] =
    [&["Expect:"], &["Expect: 100-continue"], &["Expect:", "Transfer-Encoding: chunked"]];

#[test]
fn curl_uploads_20_mb_in_each_of_its_ways() {
    let exchange = Exchange::start(1).unwrap();
    let user = &exchange.users[0];
    let file = exchange.cluster.lab.folder().join("upload");
    fs::write(&file, vec![b'u'; BYTES]).unwrap();
    for (logon, headers) in LOGONS.into_iter().flat_map(|logon| HEADERS.map(|headers| (logon, headers))) {
        let mut curl = exchange.curl().unwrap();
        curl.args(logon).args(["--user", &format!("{DOMAIN}\\{}:{}", user.name, user.password)]);
        curl.args(headers.iter().flat_map(|header| ["--header", header]));
        curl.arg("--data-binary").arg(format!("@{}", file.display())).args(["--output", "/dev/null"]);
        curl.args(["--write-out", "%{http_code} %header{x-user} %header{x-uploaded}"]);
        let said = output(curl.arg(format!("https://{PUBLIC_NAME}/EWS/echo")), None).unwrap();
        let wanted = format!("200 {} {BYTES} ", user.name);
        assert!(said.starts_with(&wanted), "{logon:?} {headers:?}: {said}");
    }
    assert_eq!(exchange.tear_down(), Vec::<String>::new());
}
