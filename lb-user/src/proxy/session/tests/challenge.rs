//! What comes without TLS: challenges of certificate authorities go to who answers them, all else is sent away.

use super::own::head;
use super::*;
use crate::proxy::redirect::Redirects;

const TOKEN: &str = "/.well-known/acme-challenge/evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr_oA";

/// A client without TLS.
fn plain(acme: bool) -> Scene {
    let at = "192.168.50.8:80".parse().unwrap();
    let mut redirects = Redirects::default();
    let mut scene = scene_with(|snapshot| {
        snapshot.sites[0].redirect = vec![at];
        snapshot.sites[0].service.hsts = Some(SECOND);
        snapshot.sites[0].service.acme = acme.then(|| "10.0.0.5:80".parse().unwrap());
        redirects = Redirects::at(snapshot, at);
    });
    (scene.client, scene.session) = join(&scene.shared, Entry::Plain(Arc::new(redirects)));
    scene
}

#[tokio::test(start_paused = true)]
async fn a_challenge_is_asked_of_its_server_with_nothing_of_the_client_but_its_address() {
    for (method, body) in [("GET", "token.key"), ("HEAD", "")] {
        let mut scene = plain(true);
        let fields = "Host: mail.example.test\r\nCookie: a=b\r\nAuthorization: Basic dTpw\r\nX-Forwarded-For: 6.6.6.6\r\n";
        scene.send(&format!("{method} {TOKEN} HTTP/1.1\r\n{fields}\r\n")).await;
        let mut server = scene.server().await;
        let asked = format!(
            "{method} {TOKEN} HTTP/1.1\r\nHost: mail.example.test\r\nX-Forwarded-For: 203.0.113.5\r\n\
             X-Forwarded-Proto: http\r\nX-Request-Id: 0000000000000007-1\r\nConnection: close\r\n\r\n"
        );
        expect(&mut server, &asked).await;
        say(&mut server, &format!("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{body}")).await;
        scene.gets(&format!("HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n{body}")).await;
        let log = scene.ends().await;
        assert!(log.contains("\"status\":200") && log.contains("\"server\":\"10.0.0.5:80\""), "{log}");
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_else_comes_without_tls_is_sent_away_or_refused() {
    let other = "/.well-known/acme-challenge/../owa/";
    for (acme, request, wanted) in [
        (false, format!("GET {TOKEN} HTTP/1.1\r\nHost: {NAME}\r\n\r\n"), "HTTP/1.1 302 Found\r\n"),
        (true, format!("GET {other} HTTP/1.1\r\nHost: {NAME}\r\n\r\n"), "HTTP/1.1 302 Found\r\n"),
        (
            true,
            format!("POST {TOKEN} HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 0\r\n\r\n"),
            "HTTP/1.1 403 Forbidden\r\n",
        ),
        (
            true,
            format!("GET {TOKEN} HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 1\r\n\r\na"),
            "HTTP/1.1 403 Forbidden\r\n",
        ),
        (
            true,
            format!("GET {TOKEN} HTTP/1.1\r\nHost: other.test\r\n\r\n"),
            "HTTP/1.1 421 Misdirected Request\r\n",
        ),
    ] {
        let mut scene = plain(acme);
        scene.send(&request).await;
        let head = head(&mut scene).await;
        assert!(head.starts_with(wanted) && !head.contains("Strict-Transport-Security"), "{head}");
        assert!(scene.servers.try_recv().is_err(), "{request}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_a_challenge_is_waited_for_for_twenty_seconds() {
    let mut scene = plain(true);
    scene.send(&format!("GET {TOKEN} HTTP/1.1\r\nHost: {NAME}\r\n\r\n")).await;
    let _server = scene.server().await;
    let asked = Instant::now();
    scene.gets("HTTP/1.1 504 Gateway Timeout\r\n").await;
    assert_eq!(asked.elapsed().as_secs(), 20);
}
