//! A server that is no etcd: what it sends costs neither the child much memory nor the agent its time.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use lb_user::config::model::Endpoint;
use lb_user::etcd::Settings;
use lb_user::etcd::request::Request;

use crate::confined::proc_status;
use crate::member::{LONG, PREFIX, Talking};

/// What is sent for a request to this path, again and again until the other end has had enough.
type Says = fn(path: &str) -> (Vec<u8>, Option<Vec<u8>>);

/// A server on its own port, for as long as this process lives.
fn serve(says: Says) -> Settings {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut request = vec![0; 64 << 10];
                // A connection that is closed ends the thread.
                while let Ok(1..) = stream.read(&mut request) {
                    let text = String::from_utf8_lossy(&request);
                    let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
                    let (first, rest) = says(&path);
                    if stream.write_all(&first).is_err() {
                        return;
                    }
                    while let Some(rest) = &rest {
                        if stream.write_all(rest).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    let address = std::net::SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    Settings {
        endpoints: vec![Endpoint { tls: false, address }],
        prefix: PREFIX.to_owned(),
        ca: String::new(),
        identity: None,
        user: None,
    }
}

fn answer(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn watching() -> Vec<u8> {
    let line = "{\"result\":{\"created\":true}}\n";
    format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{line}\r\n", line.len())
        .into_bytes()
}

/// An endless body.
fn endless(path: &str) -> (Vec<u8>, Option<Vec<u8>>) {
    if path.ends_with("/watch") {
        return (watching(), None);
    }
    (b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), Some(vec![b' '; 64 << 10]))
}

/// A list without an end: there is always more, and it is the same.
fn lists(path: &str) -> (Vec<u8>, Option<Vec<u8>>) {
    if path.ends_with("/watch") {
        return (watching(), None);
    }
    // "/clusters/dmz/a"
    (answer("{\"kvs\":[{\"key\":\"L2NsdXN0ZXJzL2Rtei9h\"}],\"more\":true}"), None)
}

/// Changes without an end, on one line without an end.
fn chatters(path: &str) -> (Vec<u8>, Option<Vec<u8>>) {
    if path.ends_with("/watch") {
        let chunk = [b"10000\r\n".to_vec(), vec![b'x'; 0x10000], b"\r\n".to_vec()].concat();
        return (watching(), Some(chunk));
    }
    (answer("{}"), None)
}

fn is_no_http(_path: &str) -> (Vec<u8>, Option<Vec<u8>>) {
    (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), None)
}

fn says_nothing(_path: &str) -> (Vec<u8>, Option<Vec<u8>>) {
    (Vec::new(), None)
}

fn heads_without_end(_path: &str) -> (Vec<u8>, Option<Vec<u8>>) {
    (b"HTTP/1.1 200 OK\r\n".to_vec(), Some(b"X-More: and more\r\n".repeat(1000)))
}

fn steers_terminals(_path: &str) -> (Vec<u8>, Option<Vec<u8>>) {
    let body = "{\"error\":\"a\\u001b[2J\\u0007\\nb\"}";
    (format!("HTTP/1.1 400 Bad\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes(), None)
}

fn has_no_gateway(_path: &str) -> (Vec<u8>, Option<Vec<u8>>) {
    (b"HTTP/1.1 404 Not Found\r\nContent-Length: 10\r\n\r\nNot Found\n".to_vec(), None)
}

/// What the agent is told, once the child has had its time with that server.
async fn told(says: Says) -> (String, u64) {
    let talking = Talking::to(serve(says));
    let told = talking.store.ask(&Request::List, LONG).await.unwrap_err();
    let value = proc_status(talking.pid().await, "VmHWM");
    let used = value.split(' ').next().unwrap().parse::<u64>().unwrap() / 1024;
    (told, used)
}

#[tokio::test]
async fn whatever_is_no_answer_of_etcd_is_told_and_costs_little_memory() {
    let cases: [(&str, Says, &str); 7] = [
        ("an endless body", endless, "more than"),
        ("an endless list", lists, "nothing that etcd says"),
        ("no HTTP", is_no_http, "http"),
        ("no word", says_nothing, "silent"),
        ("an endless head", heads_without_end, "head"),
        ("another server of HTTP", has_no_gateway, "it has no JSON gateway"),
        ("a text for terminals", steers_terminals, "it refuses: a[2Jb"),
    ];
    for (what, says, wanted) in cases {
        let (told, used) = told(says).await;
        assert!(told.to_lowercase().contains(&wanted.to_lowercase()), "{what}: {told}");
        assert!(!told.chars().any(char::is_control), "{what}: {told:?}");
        assert!(used < 64, "{what}: {used} MiB");
    }
}

#[tokio::test]
async fn changes_without_an_end_are_a_few_news_and_questions_are_answered_beside_them() {
    let talking = Talking::to(serve(chatters));
    for _ in 0..5 {
        assert_eq!(talking.list().await.generations.len(), 0);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let value = proc_status(talking.pid().await, "VmHWM");
    let used = value.split(' ').next().unwrap().parse::<u64>().unwrap() / 1024;
    assert!(used < 64, "{used} MiB");
}
