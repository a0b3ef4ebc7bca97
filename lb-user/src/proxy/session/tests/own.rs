//! Answers of the proxy's own: what a site says of every answer is in them, once it is known whose they are.

use super::*;
use crate::config::tests::site_service;

const SITE: &str = "hsts = \"1h\"\nresponse_headers = { set = { X-Frame-Options = \"DENY\" }, add = { X-Asked = \"{URL}\" } }\n";

const ROUTES: &str = "[[site.route]]\nexact = \"/hi\"\nrespond = \"hi\"\nresponse_headers = { set = { X-Frame-Options = \"SAMEORIGIN\" } }\n\
    [[site.route]]\nexact = \"/away\"\nredirect = \"/hi\"\n[[site.route]]\npath = \"/no\"\nrefuse = \"nobody may\"\n\
    [[site.route]]\npath = \"/small\"\nfarm = \"web\"\nbody_limit = \"1KiB\"\n";

/// A client of a site with these lines.
fn scene_of(lines: &str) -> Scene {
    let service = site_service(&format!("{SITE}{lines}")).unwrap();
    scene_with(|snapshot| snapshot.sites[0].service = service.try_map(|_| Ok::<_, ()>(0)).unwrap())
}

/// The next head that the client gets.
pub(super) async fn head(scene: &mut Scene) -> String {
    let mut got = Vec::new();
    while !got.ends_with(b"\r\n\r\n") {
        got.push(scene.client.read_u8().await.unwrap());
    }
    String::from_utf8(got).unwrap()
}

/// What a head says that a site says of every answer.
fn said(head: &str) -> Vec<&str> {
    let ours = ["Strict-Transport-Security: ", "X-Frame-Options: ", "X-Asked: "];
    head.lines().filter(|line| ours.iter().any(|name| line.starts_with(name))).collect()
}

#[tokio::test(start_paused = true)]
async fn what_a_site_says_of_every_answer_it_says_of_ours() {
    const HSTS: &str = "Strict-Transport-Security: max-age=3600";
    const DENY: &str = "X-Frame-Options: DENY";
    let closed = format!("maintenance = \"We are back at six.\"\n{ROUTES}");
    for (lines, request, status, wanted) in [
        (ROUTES, "GET /hi", "200", &[HSTS, "X-Frame-Options: SAMEORIGIN", "X-Asked: /hi"][..]),
        (ROUTES, "GET /away", "302", &[HSTS, DENY, "X-Asked: /away"]),
        (ROUTES, "GET /no", "403", &[HSTS, DENY, "X-Asked: /no"]),
        (ROUTES, "POST /small", "413", &[HSTS, DENY, "X-Asked: /small"]),
        (ROUTES, "GET /web", "502", &[HSTS, DENY, "X-Asked: /web"]),
        (ROUTES, "GET /a%2fb", "400", &[HSTS, DENY]),
        (&closed, "GET /hi", "503", &[HSTS, DENY, "X-Asked: /hi"]),
    ] {
        let mut scene = scene_of(lines);
        let length = if request.starts_with("POST") { "Content-Length: 2000\r\n" } else { "" };
        scene.send(&format!("{request} HTTP/1.1\r\nHost: {NAME}\r\n{length}\r\n")).await;
        if status == "502" {
            drop(scene.server().await);
        }
        let head = head(&mut scene).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {head}");
        let mut said = said(&head);
        said.sort_by_key(|line| wanted.iter().position(|wanted| wanted == line));
        assert_eq!(said, wanted, "{request}: {head}");
    }
}

#[tokio::test(start_paused = true)]
async fn before_it_is_known_whose_an_answer_is_no_site_says_anything_of_it() {
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: other.example.test\r\n\r\n", "421"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: mail.example.test\r\nA\r\n\r\n", "400"),
    ] {
        let mut scene = scene_of(ROUTES);
        scene.send(request).await;
        let head = head(&mut scene).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert_eq!(said(&head), Vec::<&str>::new(), "{head}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_route_that_answers_is_the_one_in_the_log() {
    for (path, route) in [("/hi", "=/hi"), ("/away", "=/away"), ("/no/a", "/no")] {
        let mut scene = scene_of(ROUTES);
        scene.send(&format!("GET {path} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n")).await;
        head(&mut scene).await;
        let mut rest = String::new();
        scene.client.read_to_string(&mut rest).await.unwrap();
        let log = scene.ends().await;
        assert!(log.contains(&format!("\"route\":\"{route}\"")), "{log}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_too_big_is_a_limit_and_one_that_is_none_a_bad_request() {
    let (target, value) = ("a".repeat(20_000), "b".repeat(70_000));
    for (request, status, cause, violation) in [
        (format!("GET /{target} HTTP/1.1\r\n\r\n"), 414, "limit", "TargetTooLong"),
        (format!("GET / HTTP/1.1\r\nA: {value}"), 431, "limit", "HeadTooLong"),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "A: 1\r\n".repeat(201)), 431, "limit", "TooManyFields"),
        ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), 400, "bad_request", "BareLf"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400, "bad_request", "Host"),
    ] {
        let mut scene = scene();
        scene.send(&request).await;
        let head = head(&mut scene).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{violation}: {head}");
        let mut page = String::new();
        scene.client.read_to_string(&mut page).await.unwrap();
        let log = scene.ends().await;
        let wanted = format!("\"status\":{status},\"cause\":\"{cause}\",\"violation\":\"{violation}\"");
        assert!(log.contains(&wanted), "{wanted} in {log}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_log_says_which_list_route_rule_or_mitigation_refused_a_request() {
    const RULE: &str = "rewrite = [{ name = \"no tests\", match = \"^test\", abort = true }]\n";
    for (lines, target, why) in [
        ("deny = [\"203.0.113.0/24\"]\n", "/", "the client's network may not ask this site"),
        (ROUTES, "/no", "nobody may"),
        ("mitigations = true\n", "/autodiscover/autodiscover.json?a=powershell", "mitigation proxynotshell"),
        (RULE, "/test", "rule \\\"no tests\\\": abort"),
    ] {
        let mut scene = scene_of(lines);
        let request = format!("GET {target} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n");
        scene.send(&request).await;
        let mut answer = String::new();
        scene.client.read_to_string(&mut answer).await.unwrap();
        let log = scene.ends().await;
        assert!(log.contains(&format!("\"why\":\"{why}\"")), "{why} in {log}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_dropped_without_a_drain_is_one_whose_client_left() {
    let mut scene = scene();
    scene.send(&format!("{GET}\r\n")).await;
    expect(&mut scene.server().await, &forwarded(GET, 1)).await;
    scene.session.abort();
    assert!(scene.session.await.unwrap_err().is_cancelled());
    let log = scene.log.text();
    assert!(log.contains("\"status\":499,\"pinned\""), "{log}");
}
