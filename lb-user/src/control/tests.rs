//! The control socket from end to end, with hostile clients.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::api::{Action, Answer, Captured, Nodes, Operated, Permission, Request, Status};
use super::client::{AskError, ask, follow};
use super::server::{ControlError, Lines, Reply, Sockets, serve};
use super::*;

#[test]
fn a_request_reaches_the_handler_and_its_answer_the_client() {
    with_server(|run_dir| {
        let request = Request::Operate {
            action: Action::SetWeight { weight: Some(7) },
            nodes: Nodes::Named("arr2".into()),
            rule: Some("tcp/443".into()),
        };
        assert_eq!(ask(run_dir, &request).unwrap(), repeated(&request));
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
            ("{\"request\":\"operate\",\"action\":{\"do\":\"drain\"},\"force\":true}\n", "unknown field"),
            ("{\"request\":\"operate\",\"action\":{\"do\":\"reboot\"}}\n", "unknown variant"),
            (
                "{\"request\":\"operate\",\"action\":{\"do\":\"set-weight\",\"weight\":256}}\n",
                "invalid value",
            ),
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
fn many_lines_come_until_the_handler_ends() {
    with_server(|run_dir| {
        let answers = captured(run_dir, Some(3), std::future::pending());
        let skipped = |packets| Answer::Skipped { packets };
        let end = Answer::Captured(Captured { shown: 3, ..Captured::default() });
        assert_eq!(answers, [skipped(0), skipped(1), skipped(2), end]);
    });
}

#[test]
fn a_client_that_has_had_enough_is_told_the_end() {
    with_server(|run_dir| {
        let enough = async { tokio::time::sleep(Duration::from_millis(100)).await };
        let answers = captured(run_dir, None, enough);
        assert!(answers.len() > 2, "{answers:?}");
        assert!(matches!(answers.last(), Some(Answer::Captured(_))), "{answers:?}");
    });
}

#[test]
fn a_client_that_is_gone_or_reads_nothing_ends_its_stream() {
    with_server(|run_dir| {
        let mut gone = UnixStream::connect(run_dir.join(CONTROL_SOCKET)).unwrap();
        writeln!(gone, "{}", serde_json::to_string(&capture(None, 2)).unwrap()).unwrap();
        gone.read_exact(&mut [0; 8]).unwrap();
        assert_eq!(STREAMS.load(Ordering::Acquire), 1);
        drop(gone);
        wait_until("its stream ends", Duration::from_secs(1), || STREAMS.load(Ordering::Acquire) == 0);

        let mut deaf = UnixStream::connect(run_dir.join(CONTROL_SOCKET)).unwrap();
        writeln!(deaf, "{}", serde_json::to_string(&capture(Some(u64::MAX), 2)).unwrap()).unwrap();
        deaf.read_exact(&mut [0; 8]).unwrap();
        // Others are served meanwhile.
        assert!(ask(run_dir, &Request::Status).is_ok());
        wait_until("it is cut off", Duration::from_secs(20), || STREAMS.load(Ordering::Acquire) == 0);
    });
}

#[test]
fn only_who_may_change_something_may_capture() {
    assert_eq!(capture(None, 1).needs(), Permission::Change);
    let connections = Request::Connections { bucket: None, node: None, limit: 1 };
    assert_eq!(connections.needs(), Permission::View);
    assert_eq!(Request::Events { follow: true }.needs(), Permission::View);
    let operate = Request::Operate { action: Action::Failback, nodes: Nodes::This, rule: None };
    assert_eq!(operate.needs(), Permission::Change);
}

/// `count` of it: how many lines; `None`: one every 10 ms until the client has had enough; `u64::MAX`: as many as it can.
fn capture(count: Option<u64>, seconds: u64) -> Request {
    Request::Capture { reasons: vec![], every: 1, count, seconds }
}

fn captured(run_dir: &Path, count: Option<u64>, enough: impl Future<Output = ()>) -> Vec<Answer> {
    let mut answers = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(follow(run_dir, &capture(count, 1), enough, |answer| answers.push(answer))).unwrap();
    answers
}

fn wait_until(what: &str, patience: Duration, mut done: impl FnMut() -> bool) {
    #[expect(clippy::disallowed_methods, reason = "how long a test waits")]
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < patience, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
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

async fn handle(request: Request) -> Reply {
    match request {
        Request::Status => Answer::Status(Box::<Status>::default()).into(),
        Request::Capture { count, seconds, .. } => Reply::Many(lines(count, seconds == 2)),
        Request::Operate { .. }
        | Request::Upgrade { .. }
        | Request::Reload { .. }
        | Request::Explain(_)
        | Request::ExplainRequest(_)
        | Request::Metrics
        | Request::Recall { .. }
        | Request::Configuration(_)
        | Request::Certificates
        | Request::Events { .. }
        | Request::Connections { .. }
        | Request::SetServer { .. } => repeated(&request).into(),
    }
}

/// An answer that says what was asked.
fn repeated(request: &Request) -> Answer {
    let node = Operated { node: "arr2".into(), done: false, text: format!("{request:?}") };
    Answer::Operated { nodes: vec![node] }
}

/// How many streams of the test that looks at them are under way; it asks for two seconds.
static STREAMS: AtomicU32 = AtomicU32::new(0);

fn lines(count: Option<u64>, watched: bool) -> Lines {
    let (sender, answers) = mpsc::channel(4);
    let (enough, told) = watch::channel(false);
    STREAMS.fetch_add(u32::from(watched), Ordering::AcqRel);
    tokio::spawn(async move {
        let mut shown = 0;
        while count.is_none_or(|count| shown < count) && !*told.borrow() {
            if sender.send(Answer::Skipped { packets: shown }).await.is_err() {
                break;
            }
            shown += 1;
            if count.is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        let _ = sender.send(Answer::Captured(Captured { shown, ..Captured::default() })).await;
        STREAMS.fetch_sub(u32::from(watched), Ordering::AcqRel);
    });
    Lines { answers, enough }
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
