//! What becomes of a proxy that a killed agent left behind, when the next agent starts. Each in a network namespace of its own.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;

use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::*;

/// A proxy that holds no sockets, and hears what the agent wants of it.
struct Left {
    socket: UnixListener,
    words: JoinHandle<Vec<u8>>,
}

impl Left {
    fn new(run_dir: &Path) -> Self {
        let socket = UnixListener::bind(run_dir.join("handover.sock")).unwrap();
        let theirs = socket.try_clone().unwrap();
        let words = std::thread::spawn(move || {
            let mut words = Vec::new();
            while let Ok((mut stream, _)) = theirs.accept() {
                let mut word = [0];
                // Who only looks is gone by now.
                if stream.write_all(&[0]).is_ok() && matches!(stream.read(&mut word), Ok(1)) {
                    words.extend(word);
                }
            }
            words
        });
        Self { socket, words }
    }

    /// What was said until now.
    fn words(self) -> Vec<u8> {
        rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both).unwrap();
        self.words.join().unwrap()
    }
}

#[test]
fn a_start_that_fails_leaves_the_old_proxy_serving() {
    in_namespace(|config, runtime| {
        config.cluster.sites.push(site());
        let left = Left::new(&config.local.run_dir);
        ip("link set nic down");
        let mut agent = runtime.block_on(async { agent(config) }).unwrap();
        let error = runtime.block_on(agent.bring_up()).unwrap_err().to_string();
        assert!(error.contains("interface nic is down"), "{error}");
        assert_eq!(left.words(), Vec::<u8>::new());
    });
}

#[test]
fn an_agent_without_a_proxy_ends_the_old_one() {
    in_namespace(|config, runtime| {
        let left = Left::new(&config.local.run_dir);
        let agent = runtime.block_on(async { agent(config) }).unwrap();
        assert!(agent.prepare_proxy(false).unwrap().is_none());
        assert_eq!(left.words(), crate::proxy::worker::END);
        assert!(!config.local.run_dir.join("handover.sock").exists());
    });
}

fn agent(config: &Config) -> Result<Agent> {
    let signals = StopSignals::block()?.stream()?;
    Agent::new(
        config.clone(),
        Origin::Files { cluster: "/nonexistent/cluster.toml".into(), node: None },
        signals,
    )
}

fn site() -> crate::config::model::Site {
    crate::config::model::Site {
        names: vec!["mail.example.test".to_owned()],
        listen: vec!["192.168.50.8:443".parse().unwrap()],
        certificate: "/nonexistent/mail.crt".into(),
        key: "/nonexistent/mail.key".into(),
        redirect: Vec::new(),
        tls: Default::default(),
        service: crate::config::model::Service::to_farm("exchange", crate::config::model::Bounds::default()),
    }
}

/// Runs `test` in a new network namespace with the interfaces `nic` (192.168.50.6/24) and `peer`.
fn in_namespace(test: impl FnOnce(&mut Config, &tokio::runtime::Runtime) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        // SAFETY: only the network namespace is left, on which no other thread's memory or descriptors depend.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("these tests need root");
        ip("link add nic type veth peer name peer");
        ip("address add 192.168.50.6/24 dev nic");
        ip("link set nic up");
        ip("link set peer up");
        let run_dir = folder();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        test(&mut config(&run_dir), &runtime);
        let _ = fs::remove_dir_all(run_dir);
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn config(run_dir: &Path) -> Config {
    fs::create_dir_all(run_dir).unwrap();
    let file = run_dir.join("cluster.toml");
    let text = "[cluster]\nip = \"192.168.50.8/24\"\nmode = \"multicast\"\n\
                [[node]]\nname = \"arr1\"\naddress = \"192.168.50.6\"\npriority = 1\n";
    fs::write(&file, text).unwrap();
    let mut config = crate::config::load_for(&file, None).unwrap();
    config.local.interface = "nic".to_owned();
    config.local.run_dir = run_dir.to_owned();
    config.local.state_dir = run_dir.join("state");
    config.local.secret_file = run_dir.join("secret");
    fs::write(&config.local.secret_file, "5a".repeat(32)).unwrap();
    fs::set_permissions(&config.local.secret_file, fs::Permissions::from_mode(0o600)).unwrap();
    config
}

fn ip(arguments: &str) {
    assert!(Command::new("ip").args(arguments.split(' ')).status().unwrap().success(), "ip {arguments}");
}

fn folder() -> PathBuf {
    let thread = std::thread::current().id();
    std::env::temp_dir().join(format!("rollcall-agent-{}-{thread:?}", std::process::id()))
}
