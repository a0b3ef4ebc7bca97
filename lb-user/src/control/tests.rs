//! The control socket from end to end, with hostile clients.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::api::{Answer, Request, Status};
use super::client::{AskError, ask};
use super::server::{ControlError, Sockets, serve};
use super::*;

#[test]
fn a_request_reaches_the_handler_and_its_answer_the_client() {
    with_server(|run_dir| {
        let drained = ask(run_dir, &Request::Drain { node: Some("arr2".into()) }).unwrap();
        assert_eq!(drained, Answer::Done { text: "Drain { node: Some(\"arr2\") }".into() });
        let status = ask(run_dir, &Request::Status).unwrap();
        assert_eq!(status, Answer::Status(Box::default()));
    });
}

#[test]
fn hostile_lines_are_answered_and_harm_nobody() {
    with_server(|run_dir| {
        let long = "x".repeat(100_000);
        let deep = "[".repeat(4000);
        for (line, expected) in [
            ("\n", "not a request of this version"),
            ("{}\n", "not a request of this version"),
            ("{\"request\":\"reboot\"}\n", "unknown variant"),
            ("{\"request\":\"drain\",\"force\":true}\n", "unknown field"),
            (&deep, "not a request of this version"),
            (&long, "longer than 4096 bytes"),
            ("\0\u{1}\u{7f}\n", "not a request of this version"),
        ] {
            let answer = raw(run_dir, line);
            assert!(answer.contains(expected), "{expected}: {answer}");
        }
        assert!(ask(run_dir, &Request::Status).is_ok());
    });
}

#[test]
fn silent_clients_do_not_keep_others_out() {
    with_server(|run_dir| {
        let silent: Vec<_> =
            (0..20).map(|_| UnixStream::connect(run_dir.join(CONTROL_SOCKET)).unwrap()).collect();
        assert!(ask(run_dir, &Request::Status).is_ok());
        drop(silent);
    });
}

#[test]
fn no_agent_is_told_with_the_cure() {
    let folder = Folder::new();
    let error = ask(&folder.0, &Request::Status).unwrap_err();
    assert!(matches!(error, AskError::NoAgent { .. }), "{error}");
    assert!(error.to_string().contains("start it: rollcall run --config"), "{error}");
}

#[test]
fn a_second_agent_is_refused_and_a_killed_ones_socket_replaced() {
    with_server(|run_dir| {
        let second = runtime().block_on(async { Sockets::bind(run_dir) });
        assert!(matches!(second, Err(ControlError::Running { .. })), "{second:?}");
        assert!(ask(run_dir, &Request::Status).is_ok());
    });
    let folder = Folder::new();
    drop(std::os::unix::net::UnixListener::bind(folder.0.join(CONTROL_SOCKET)).unwrap());
    runtime().block_on(async { Sockets::bind(&folder.0).unwrap() });
    assert!(!folder.0.join(CONTROL_SOCKET).exists(), "a clean end leaves no socket");
}

#[test]
fn the_socket_is_closed_to_the_world() {
    with_server(|run_dir| {
        let mode = std::fs::metadata(run_dir.join(CONTROL_SOCKET)).unwrap().permissions().mode();
        assert_eq!(mode & 0o007, 0, "{mode:o}");
    });
}

fn raw(run_dir: &Path, line: &str) -> String {
    let mut stream = UnixStream::connect(run_dir.join(CONTROL_SOCKET)).unwrap();
    // The server may close before it has read all of a long line.
    let _ = stream.write_all(line.as_bytes());
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn with_server(test: impl FnOnce(&Path)) {
    let folder = Folder::new();
    let runtime = runtime();
    let sockets = runtime.block_on(async { Sockets::bind(&folder.0).unwrap() });
    let server = runtime.spawn(async move { serve(&sockets, handle).await });
    test(&folder.0);
    server.abort();
}

async fn handle(request: Request) -> Answer {
    match request {
        Request::Status => Answer::Status(Box::<Status>::default()),
        Request::Drain { .. } | Request::Resume { .. } => Answer::Done { text: format!("{request:?}") },
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("rollcall-control-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
