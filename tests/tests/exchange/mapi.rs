//! MAPI over HTTP is passed on as it comes, in both directions: each side confirms over a channel that the proxy does not see that all so
//! far has arrived, and neither sends on before it has heard so.

use std::process::Command;

use rollcall_tests::exchange::{Exchange, nginx, standin, told};
use serde::Deserialize;

/// As the program mapi_client.py tells of a request.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    kind: String,
    /// How the body was sent.
    chunked: bool,
    /// Its pieces, each of which the server confirmed before the next was sent.
    confirmed: usize,
    status: u16,
    /// What the response says its kind is.
    #[serde(rename = "type")]
    answered: String,
    /// The response's chunks, each of which the client confirmed before the next was sent.
    pieces: Vec<String>,
}

/// The program, with its channel to the server.
fn client(exchange: &Exchange) -> Command {
    let mut client = exchange.client("mapi_client.py").unwrap();
    client.arg("--channel").arg(standin::store(exchange).join("mapi.sock"));
    client
}

#[test]
fn nothing_of_mapi_waits_in_the_proxy_for_more() {
    let exchange = Exchange::of_standins(&["sbex1"], 0).unwrap();
    let requests: Vec<Request> = told(&mut client(&exchange)).unwrap();
    let kinds: Vec<_> = requests.iter().map(|request| (request.kind.as_str(), request.chunked)).collect();
    assert_eq!(kinds, [("Execute", false), ("Execute", true), ("NotificationWait", false)]);
    for request in &requests {
        assert_eq!((request.status, &request.answered), (200, &request.kind), "{request:#?}");
        assert_eq!(request.confirmed, 6, "{request:#?}");
        // The meta-tags, each in a chunk of its own; then the header fields within the body; then the body, byte by byte.
        assert_eq!(request.pieces[0], "PROCESSING\r\n", "{request:#?}");
        assert!(request.pieces[1..7].iter().all(|piece| piece == "PENDING\r\n"), "{request:#?}");
        assert!(request.pieces[7].starts_with("DONE\r\nX-ResponseCode: 0\r\n"), "{request:#?}");
        assert_eq!(request.pieces[8..], vec!["\0"; 16], "{request:#?}");
    }
    assert_eq!(exchange.tear_down(), Vec::<String>::new());
}

#[test]
fn a_proxy_that_waits_for_more_is_found_out() {
    let mut exchange = Exchange::raise(0).unwrap();
    exchange.start_standins(&["sbex1", "sbex3"]).unwrap();
    let nginx = nginx::start(&exchange).unwrap();
    let outcome = client(&exchange).args(["--patience", "3"]).output().unwrap();
    let said = String::from_utf8_lossy(&outcome.stderr);
    assert!(!outcome.status.success() && said.contains("TimeoutError"), "{said}");
    drop(nginx);
    assert_eq!(exchange.tear_down(), Vec::<String>::new());
}
