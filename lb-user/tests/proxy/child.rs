//! The real `rollcall proxy`, as a user of its own, under a supervisor. Needs root.

use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use lb_user::control::api::ProxyStatus;
use lb_user::proxy::snapshot::Snapshot;
use lb_user::proxy::supervisor::{Left, Spec, Supervisor, end_left, is_left, take_listeners};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;

use crate::backend::Backend;
use crate::client::{Client, header, text};
use crate::confined::{assert_confined, proc_status};
use crate::setup::{Identity, NAME, eventually, listener, nobody, snapshot};

/// A user that no /etc/passwd knows.
const USER: &str = "64750";

/// A supervisor's surroundings.
pub(crate) struct Place {
    pub(crate) run_dir: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) backend: Backend,
    pub(crate) address: SocketAddrV4,
}

impl Place {
    pub(crate) async fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test starts a process as another user: run it as root"
        );
        let address = nobody();
        let run_dir =
            std::env::temp_dir().join(format!("rollcall-proxy-{}-{}", std::process::id(), address.port()));
        std::fs::create_dir(&run_dir).unwrap();
        let identity = Identity::new(&[NAME]);
        let backend = Backend::start("a", &identity).await;
        Self { run_dir, identity, backend, address }
    }

    pub(crate) fn spec(&self, listeners: Vec<OwnedFd>) -> Spec {
        Spec {
            program: PathBuf::from(env!("CARGO_BIN_EXE_rollcall")),
            user: USER.to_owned(),
            snapshot: self.snapshot(),
            listeners,
            run_dir: self.run_dir.clone(),
            log: Some(std::fs::File::create(self.run_dir.join("access.log")).unwrap().into()),
        }
    }

    /// What it serves.
    pub(crate) fn snapshot(&self) -> Snapshot {
        snapshot(&self.identity, self.address, &[self.backend.address])
    }

    /// What an agent does at its start.
    pub(crate) async fn start(&self) -> Supervisor {
        let listeners = take_listeners(&self.run_dir, &[self.address.into()]).unwrap();
        let supervisor = Supervisor::start(self.spec(listeners)).unwrap();
        status_becomes(&supervisor, |status| status.ready).await;
        supervisor
    }

    pub(crate) async fn get(&self) -> u16 {
        Client::connect(self.address).await.get("/who").await.status().as_u16()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A test that failed has let its child go, and the child would serve on for ever.
        if std::thread::panicking() {
            drop(end_left(&self.run_dir));
        }
        drop(std::fs::remove_dir_all(&self.run_dir));
    }
}

pub(crate) async fn status_becomes(
    supervisor: &Supervisor,
    wanted: impl Fn(&ProxyStatus) -> bool,
) -> ProxyStatus {
    let mut status = supervisor.status();
    let waited =
        tokio::time::timeout(std::time::Duration::from_secs(30), status.wait_for(|status| wanted(status)))
            .await;
    waited.expect("the proxy's status never became that").unwrap().clone()
}

fn kill(status: &ProxyStatus) {
    let pid = Pid::from_raw(status.pid.unwrap().cast_signed()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_child_serves_as_another_user_with_nothing_it_does_not_need() {
    let place = Place::new().await;
    let supervisor = place.start().await;
    assert_eq!(place.get().await, 200);
    let pid = supervisor.status().borrow().pid.unwrap();
    assert_confined(pid, USER);
    assert_eq!(proc_status(pid, "SigBlk"), "0000000000000000");
    supervisor.stop().await;
    let log = std::fs::read_to_string(place.run_dir.join("access.log")).unwrap();
    assert!(
        log.contains(r#""client":"127.0.0.1""#) && log.contains(r#""method":"GET","path":"/who""#),
        "{log}"
    );
    assert!(!place.run_dir.join("handover.sock").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_child_is_replaced_and_no_connection_request_is_lost() {
    let place = Place::new().await;
    let supervisor = place.start().await;
    for round in 1..=3 {
        kill(&supervisor.status().borrow());
        // Into the gap: the sockets are the agent's, so the kernel takes the connection.
        let waiting = TcpStream::connect(place.address).await.unwrap();
        assert_eq!(Client::over(waiting).await.get("/who").await.status(), 200);
        let status = status_becomes(&supervisor, |status| status.ready && status.restarts == round).await;
        assert!(status.servers.iter().all(|server| server.healthy));
    }
    supervisor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_stands_still_is_replaced() {
    let place = Place::new().await;
    let supervisor = place.start().await;
    let pid = Pid::from_raw(supervisor.status().borrow().pid.unwrap().cast_signed()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    status_becomes(&supervisor, |status| status.restarts == 1 && status.ready).await;
    assert_eq!(place.get().await, 200);
    supervisor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_follows_the_servers() {
    let place = Place::new().await;
    let supervisor = place.start().await;
    place.backend.state.healthy.store(false, Ordering::SeqCst);
    let status = status_becomes(&supervisor, |status| !status.ready).await;
    assert!(status.alive && !status.servers[0].healthy);
    place.backend.state.healthy.store(true, Ordering::SeqCst);
    status_becomes(&supervisor, |status| status.ready).await;
    supervisor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_resume_and_stop_reach_the_child() {
    let place = Place::new().await;
    let supervisor = place.start().await;
    let mut kept = Client::connect(place.address).await;
    text(kept.get("/who").await).await;
    supervisor.drain();
    let mut drained = supervisor.drained();
    let response = kept.get("/who").await;
    // The order may still be on its way with the first answer; the connection ends in any case.
    text(response).await;
    drained.wait_for(|drained| *drained).await.unwrap();
    let response = Client::connect(place.address).await.get("/who").await;
    assert_eq!(header(&response, "connection"), "close");
    supervisor.resume();
    loop {
        let response = Client::connect(place.address).await.get("/who").await;
        if header(&response, "connection").is_empty() {
            break;
        }
    }
    let address = place.address;
    let in_flight =
        tokio::spawn(async move { text(Client::connect(address).await.get("/gate").await).await });
    eventually("a request waits", || place.backend.state.waiting.load(Ordering::SeqCst) == 1).await;
    let pid = supervisor.status().borrow().pid.unwrap();
    let stopped = tokio::spawn(supervisor.stop());
    place.backend.state.gate.add_permits(1);
    assert_eq!(in_flight.await.unwrap(), "through");
    stopped.await.unwrap();
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_outlives_its_agent_and_hands_the_sockets_over() {
    let place = Place::new().await;
    let first = place.start().await;
    let mut kept = Client::connect(place.address).await;
    text(kept.get("/who").await).await;
    let old = first.status().borrow().pid.unwrap();
    // As when the agent is killed: the channel closes without a word. (A dead agent's own sockets are closed, too.)
    drop(first);
    assert_eq!(kept.get("/who").await.status(), 200, "the old connection serves on");
    assert_eq!(place.get().await, 200, "and so do new ones");
    let second = place.start().await;
    assert_ne!(second.status().borrow().pid.unwrap(), old);
    assert_eq!(kept.get("/who").await.status(), 200, "once more on the old connection");
    for _ in 0..5 {
        assert_eq!(place.get().await, 200);
    }
    drop(kept);
    eventually("the old child ends", || !Path::new(&format!("/proc/{old}/fd/0")).exists()).await;
    second.stop().await;
    assert!(!is_left(&place.run_dir).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_whose_agent_dies_while_it_stops_hands_the_sockets_over_and_finishes() {
    let place = Place::new().await;
    let first = place.start().await;
    let address = place.address;
    let in_flight =
        tokio::spawn(async move { text(Client::connect(address).await.get("/gate").await).await });
    eventually("a request waits", || place.backend.state.waiting.load(Ordering::SeqCst) == 1).await;
    let mut status = first.status();
    let stopping = tokio::spawn(first.stop());
    status.wait_for(|status| status.alive && !status.ready).await.unwrap();
    stopping.abort();
    assert!(stopping.await.unwrap_err().is_cancelled());
    // Into the gap between the two.
    let waiting = TcpStream::connect(place.address).await.unwrap();
    let second = place.start().await;
    assert_eq!(Client::over(waiting).await.get("/who").await.status(), 200);
    place.backend.state.gate.add_permits(1);
    assert_eq!(in_flight.await.unwrap(), "through");
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_request_in_the_queue_survives_the_hand_over() {
    let place = Place::new().await;
    let first = place.start().await;
    let pid = Pid::from_raw(first.status().borrow().pid.unwrap().cast_signed()).unwrap();
    drop(first);
    kill_process(pid, Signal::STOP).unwrap();
    let waiting = TcpStream::connect(place.address).await.unwrap();
    kill_process(pid, Signal::CONT).unwrap();
    let second = place.start().await;
    assert_eq!(Client::over(waiting).await.get("/who").await.status(), 200);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_may_be_where_its_user_cannot_walk() {
    let place = Place::new().await;
    let hidden = place.run_dir.join("hidden");
    std::fs::create_dir(&hidden).unwrap();
    std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o700)).unwrap();
    let program = hidden.join("rollcall");
    std::fs::copy(env!("CARGO_BIN_EXE_rollcall"), &program).unwrap();
    let listeners = take_listeners(&place.run_dir, &[place.address.into()]).unwrap();
    let spec = Spec { program, ..place.spec(listeners) };
    let supervisor = Supervisor::start(spec).unwrap();
    status_becomes(&supervisor, |status| status.ready).await;
    assert_eq!(place.get().await, 200);
    supervisor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_named() {
    let place = Place::new().await;
    let first = place.start().await;
    let (_taken, address) = listener();
    // The old proxy, too, goes on where the new agent cannot.
    drop(first);
    eventually("the proxy is left", || is_left(&place.run_dir).unwrap()).await;
    let error =
        take_listeners(&place.run_dir, &[place.address.into(), address.into()]).unwrap_err().to_string();
    assert!(error.contains(&address.to_string()) && error.contains("ss -ltnp"), "{error}");
    assert_eq!(place.get().await, 200);
    place.start().await.stop().await;
}

/// What the next image of the agent's program does with what was left.
fn take_up(place: &Place, left: &Left) -> Supervisor {
    let words = serde_json::to_vec(&left.words()).unwrap();
    let descriptors = left.descriptors().into_iter().map(|it| it.try_clone_to_owned().unwrap()).collect();
    let left = Left::take_up(serde_json::from_slice(&words).unwrap(), descriptors, &place.run_dir).unwrap();
    Supervisor::resume_from(left, Path::new(env!("CARGO_BIN_EXE_rollcall")), USER, None).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_goes_on_with_the_child_that_another_left() {
    let place = Place::new().await;
    let first = place.start().await;
    let mut kept = Client::connect(place.address).await;
    text(kept.get("/who").await).await;
    let before = first.status().borrow().clone();
    let second = take_up(&place, &first.leave().await.unwrap());
    let after = second.status().borrow().clone();
    assert!(after.ready, "it is ready from the first moment: {after:?}");
    assert_eq!((after.pid, &after.servers), (before.pid, &before.servers));
    assert_eq!(kept.get("/who").await.status(), 200);
    // It is heard: the count of connections comes with its heartbeats.
    drop(kept);
    status_becomes(&second, |status| status.connections == 0).await;
    kill(&second.status().borrow());
    let status = status_becomes(&second, |status| status.ready && status.restarts == 1).await;
    assert_ne!(status.pid, before.pid);
    assert_eq!(place.get().await, 200);
    second.stop().await;
    assert!(!Path::new(&format!("/proc/{}", status.pid.unwrap())).exists());
    assert!(!place.run_dir.join("handover.sock").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_drains_does_so_under_the_next_supervisor_until_it_is_told_otherwise() {
    let place = Place::new().await;
    let first = place.start().await;
    first.drain();
    first.drained().wait_for(|drained| *drained).await.unwrap();
    let second = take_up(&place, &first.leave().await.unwrap());
    assert!(*second.drained().borrow());
    let response = Client::connect(place.address).await.get("/who").await;
    assert_eq!(header(&response, "connection"), "close");
    second.resume();
    while !header(&Client::connect(place.address).await.get("/who").await, "connection").is_empty() {}
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_dies_between_two_supervisors_is_replaced() {
    let place = Place::new().await;
    let first = place.start().await;
    let left = first.leave().await.unwrap();
    kill_left(&left);
    let second = take_up(&place, &left);
    // Its channel is closed only once the former supervisor's end is: here both are this process's.
    drop(left);
    status_becomes(&second, |status| status.ready && status.restarts == 1).await;
    assert_eq!(place.get().await, 200);
    second.stop().await;
}

fn kill_left(left: &Left) {
    let words = serde_json::to_value(left.words()).unwrap();
    let pid = words["child"]["pid"].as_i64().unwrap();
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
}
