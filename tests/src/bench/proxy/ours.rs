//! Rollcall's proxy as the agent runs it: a worker of its own user, locked in, with a checked configuration. The agent itself
//! is in the way of no request, so a supervisor alone stands for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use lb_user::config;
use lb_user::config::secret::ClusterSecret;
use lb_user::proxy::supervisor::{self, Spec, Supervisor, take_listeners};
use tokio::sync::oneshot;

use super::Profile;
use super::place::{Place, stay_on};
use crate::lab::{CLUSTER_IP, PUBLIC_NAME, SERVERS};

/// A running worker; ended when dropped.
pub(super) struct Ours {
    pid: u32,
    end: Option<oneshot::Sender<()>>,
    supervisor: Option<JoinHandle<Result<()>>>,
}

impl Ours {
    /// Starts `program` in the place, on the proxies' CPU.
    pub(super) fn start(place: &Place, profile: Profile, port: u16, program: PathBuf) -> Result<Self> {
        let folder = place.folder().join(format!("ours-{port}"));
        fs::create_dir(&folder).context("cannot make the proxy's folder")?;
        let (namespace, cpu) = (place.namespace.clone(), place.cpus.proxies);
        let file = folder.join("cluster.toml");
        fs::write(&file, configuration(place, profile, port)).context("cannot write cluster.toml")?;
        let ((started, pid), (end, ended)) = (channel(), oneshot::channel());
        let supervisor = thread::spawn(move || {
            namespace.move_into()?;
            stay_on(cpu)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(supervise(&file, &folder, program, started, ended))
        });
        match pid.recv() {
            Ok(pid) => Ok(Self { pid, end: Some(end), supervisor: Some(supervisor) }),
            Err(_) => {
                let ended = supervisor.join().map_err(|_| anyhow!("the supervisor panicked"))?;
                Err(ended.err().unwrap_or_else(|| anyhow!("the proxy never became ready")))
            }
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(Ok(Err(error))) = self.supervisor.take().map(JoinHandle::join) {
            eprintln!("warning: rollcall's proxy: {error:#}");
        }
    }
}

async fn supervise(
    file: &Path,
    folder: &Path,
    program: PathBuf,
    started: Sender<u32>,
    ended: oneshot::Receiver<()>,
) -> Result<()> {
    let config = config::load_for(file, None)?;
    let secret = ClusterSecret::parse(&"5a".repeat(32))?;
    let snapshot = supervisor::snapshot(&config, &secret)?;
    let listeners = take_listeners(folder, &snapshot.listen)?;
    let log = fs::File::create(folder.join("access.log")).context("cannot make the access log")?;
    let user = "64750".to_owned();
    let run_dir = folder.to_owned();
    let supervisor =
        Supervisor::start(Spec { program, user, snapshot, listeners, run_dir, log: Some(log.into()) })?;
    let mut status = supervisor.status();
    let ready = tokio::time::timeout(Duration::from_secs(20), status.wait_for(|status| status.ready)).await;
    let pid = match ready {
        Ok(Ok(status)) => status.pid,
        Ok(Err(_)) | Err(_) => None,
    };
    if let Some(pid) = pid {
        started.send(pid).ok();
        ended.await.ok();
    }
    supervisor.killer().kill();
    supervisor.stop().await;
    pid.map(drop).context("rollcall's proxy was not ready within 20 s")
}

/// The cluster's file.
fn configuration(place: &Place, profile: Profile, port: u16) -> String {
    let certificates = &place.certificates;
    let (certificate, key) = (certificates.certificate.display(), certificates.key.display());
    let [(_, server), _] = SERVERS;
    let cluster = format!(
        "[cluster]\nip = \"{CLUSTER_IP}/24\"\nmode = \"multicast\"\n\
         [[node]]\nname = \"arr1\"\naddress = \"192.168.50.6\"\npriority = 1\n[[rule]]\nports = {port}\n"
    );
    let site = match profile {
        Profile::Plain => format!(
            "[[site]]\nport = {port}\nnames = [{PUBLIC_NAME:?}]\nfarm = \"web\"\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n\
             [[farm]]\nname = \"web\"\nservers = [\"{server}\"]\nverify = \"none\"\nhealth = {{ path = \"/owa/healthcheck.htm\", body = \"\", interval = \"1h\" }}\n"
        ),
        // A rate that nobody reaches: the others keep such a table, too.
        Profile::Exchange => format!(
            "[protection]\nrate = {{ requests = 1000000, per = \"1s\" }}\n[exchange]\nport = {port}\nredirect_http = false\nnames = [{PUBLIC_NAME:?}]\nservers = [\"{server}\"]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n"
        ),
    };
    cluster + &site
}
