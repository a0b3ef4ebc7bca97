//! That nobody logs on over a connection that is many requests'.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_logon_of_a_connection_is_told_to_come_with_http1_and_reaches_no_server() {
    for credentials in ["NTLM TlRMTVNTUAAB", "Negotiate YIIK", "negotiate YIIK"] {
        let mut scene = scene().await;
        let mut ask = request(Method::GET, "/owa/");
        ask.headers_mut().insert("authorization", credentials.parse().unwrap());
        let (answer, _) = scene.send(ask, false).await;
        assert_eq!(answer.reset().await, Reason::HTTP_1_1_REQUIRED, "{credentials}");
        scene.no_server().await;
        let log = scene.log.text();
        assert!(log.contains("\"status\":505") && log.contains("\"cause\":\"http_1_1_required\""), "{log}");
    }
}

#[tokio::test(start_paused = true)]
async fn challenges_of_connections_are_taken_out_and_where_none_is_left_http1_is_required() {
    let challenged = |fields: &str| format!("HTTP/1.1 401 Unauthorized\r\n{fields}Content-Length: 0\r\n\r\n");
    let mut scene = scene().await;
    let answer = scene.get("/").await;
    let mut server = scene.server().await;
    let mixed =
        "WWW-Authenticate: NTLM\r\nWWW-Authenticate: Basic realm=\"a\"\r\nWWW-Authenticate: Negotiate\r\n";
    say(&mut server, &challenged(mixed)).await;
    let head = answer.head().await;
    let left: Vec<_> = head.headers().get_all("www-authenticate").iter().collect();
    assert_eq!(left, ["Basic realm=\"a\""]);
    let answer = scene.get("/").await;
    let mut server = scene.server().await;
    say(&mut server, &challenged("WWW-Authenticate: NTLM\r\n")).await;
    assert_eq!(answer.reset().await, Reason::HTTP_1_1_REQUIRED);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_served_over_a_connection_that_was_asked_to_log_on() {
    for answered in [
        "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"a\"\r\nWWW-Authenticate: NTLM\r\n",
        "200 OK\r\nPersistent-Auth: true\r\n",
    ] {
        let mut scene = scene().await;
        let answer = scene.get("/").await;
        let mut server = scene.server().await;
        say(&mut server, &format!("HTTP/1.1 {answered}Content-Length: 0\r\n\r\n")).await;
        assert!(!answer.head().await.headers().contains_key("persistent-auth"));
        scene.get("/2").await;
        let mut another = scene.server().await;
        expect(&mut another, &got("/2", "", 2)).await;
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn server_connections_end_with_the_client_connection_that_they_belong_to() {
    let mut scene = scene().await;
    let answer = scene.get("/").await;
    let mut server = scene.server().await;
    expect(&mut server, &got("/", "", 1)).await;
    say(&mut server, OK).await;
    assert_eq!(answer.whole().await.0, 200);
    let Scene { client, connection, proxy, .. } = scene;
    drop(client);
    connection.await.unwrap().unwrap();
    proxy.await.unwrap();
    let mut rest = Vec::new();
    server.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}
