//! Where proxies are compared: one network namespace of loopback alone, in it the server behind them. Proxies have one CPU,
//! what loads them and the server another.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::backend::{Certificates, start_nginx, wait_for_port};
use crate::estate::{Estate, Turn};
use crate::lab::{CLUSTER_IP, SERVERS};
use crate::sys::{Namespace, Process, allow_files};

/// Where files of one MiB and one GiB lie on the server.
pub(super) const MEBIBYTE: &str = "/owa/mebibyte.bin";
pub(super) const GIBIBYTE: &str = "/owa/gibibyte.bin";
/// Answered with a few bytes.
pub(super) const SMALL: &str = "/owa/";

/// Connections at rest, where descriptors allow so many.
pub(super) const RESTING: u32 = 10_000;
/// A proxy's descriptors for all else: ours, which wants the most, keeps 556 free.
const RESERVED: u64 = 600;
/// Where connections come from that rest: ours allows 5000 to each client.
pub(super) const CLIENTS: [Ipv4Addr; 4] = [
    Ipv4Addr::new(198, 51, 100, 1),
    Ipv4Addr::new(198, 51, 100, 2),
    Ipv4Addr::new(198, 51, 100, 3),
    Ipv4Addr::new(198, 51, 100, 4),
];

/// See the module. Its processes and files are gone with it.
pub(super) struct Place {
    pub(super) namespace: Namespace,
    pub(super) certificates: Certificates,
    pub(super) cpus: Cpus,
    _server: Process,
    estate: Arc<Estate>,
    _turn: Turn,
}

/// Who runs where.
#[derive(Clone, Copy)]
pub(super) struct Cpus {
    /// The proxies' own.
    pub(super) proxies: usize,
    /// That of the load, and of the server.
    pub(super) others: usize,
}

impl Place {
    pub(super) fn raise() -> Result<Self> {
        let turn = Turn::wait()?;
        allow_files(2 * u64::from(RESTING) + RESERVED)?;
        let cpus = Cpus::of_this_machine()?;
        let estate = Estate::found()?;
        let namespace = estate.namespace("bench")?;
        let mut addresses = format!("addr add {CLUSTER_IP}/32 dev lo\n");
        for address in SERVERS.map(|(_, address)| address).into_iter().chain(CLIENTS) {
            writeln!(addresses, "addr add {address}/32 dev lo")?;
        }
        namespace.ip(&addresses)?;
        namespace.sysctl("net/ipv4/ip_local_port_range", "10000 65000")?;
        let certificates = Certificates::make(&estate.folder())?;
        let server = on_cpu(cpus.others, || server(&estate, &namespace, &certificates))??;
        Ok(Self { namespace, certificates, cpus, _server: server, estate, _turn: turn })
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.estate.folder()
    }

    /// Where a proxy on `port` is reached.
    pub(super) fn address(port: u16) -> SocketAddr {
        (CLUSTER_IP, port).into()
    }

    /// Runs `work` in the namespace, on the load's CPU.
    pub(super) fn as_client<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        on_cpu(self.cpus.others, || self.namespace.enter(work))?
    }

    /// How many connections rest at a proxy at once: `RESTING`, or as many as descriptors allow, of which each takes two.
    pub(super) fn resting() -> u32 {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        u32::try_from(files.saturating_sub(RESERVED) / 2).unwrap_or(u32::MAX).min(RESTING)
    }

    /// Removes all of it; what is left of it, a line each.
    pub(super) fn tear_down(self) -> Vec<String> {
        let estate = Arc::clone(&self.estate);
        drop(self);
        estate.tear_down();
        estate.leftovers()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.estate.tear_down();
    }
}

impl Cpus {
    fn of_this_machine() -> Result<Self> {
        let allowed = sched_getaffinity(None).context("cannot tell which CPUs there are")?;
        let mut allowed = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
        let others = allowed.next().unwrap_or(0);
        Ok(Self { proxies: allowed.next().unwrap_or(others), others })
    }
}

/// Runs `work` on a thread that stays on one CPU, as what it starts does.
pub(super) fn on_cpu<T: Send>(cpu: usize, work: impl FnOnce() -> T + Send) -> Result<T> {
    thread::scope(|scope| {
        let worked = scope.spawn(|| {
            stay_on(cpu)?;
            Ok(work())
        });
        worked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Has the calling thread stay on one CPU for the rest of its life.
pub(super) fn stay_on(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("cannot stay on CPU {cpu}"))
}

/// The server: nginx on both servers' addresses, in Exchange's place.
fn server(estate: &Estate, namespace: &Namespace, certificates: &Certificates) -> Result<Process> {
    let folder = estate.folder().join("server");
    fs::create_dir_all(folder.join("www/owa")).context("cannot make the server's folder")?;
    for (path, length) in [(MEBIBYTE, 1 << 20), (GIBIBYTE, 1 << 30)] {
        // Sparse: it takes no memory.
        let file = File::create(folder.join("www").join(path.trim_start_matches('/')));
        file.and_then(|file| file.set_len(length)).context("cannot make a large file")?;
    }
    let text = format!(
        "keepalive_requests 100000000; keepalive_timeout 600s; ssl_session_cache shared:servers:10m; ssl_protocols TLSv1.2 TLSv1.3;\n\
         server {{ listen {server}:443 ssl backlog=4096; root {folder}/www; default_type text/plain;\n\
         ssl_certificate {certificate}; ssl_certificate_key {key};\n\
         location ~ healthcheck {{ return 200 \"200 OK<br/>\"; }}\n\
         location = {SMALL} {{ return 200 \"well\\n\"; }} }}\n",
        server = SERVERS[0].1,
        folder = folder.display(),
        certificate = certificates.certificate.display(),
        key = certificates.key.display(),
    );
    let server = start_nginx(namespace, "the servers' addresses", &folder, &text)?;
    wait_for_port(namespace, SERVERS[0].1, 443, &server)?;
    Ok(server)
}
