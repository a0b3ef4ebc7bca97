//! Other people's programs on loopback: a folder each, ended when the test ends.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;

/// A running program with a folder of its own.
pub(crate) struct Program {
    child: Child,
    folder: PathBuf,
}

impl Program {
    /// Starts `name` in a new folder, into which `command` writes what it needs, and waits until it accepts at `doors`.
    pub(crate) async fn start(
        name: &str,
        doors: &[SocketAddrV4],
        command: impl FnOnce(&Path) -> Command,
    ) -> Self {
        let folder = std::env::temp_dir().join(format!("rollcall-{name}-{}", doors[0].ip()));
        fs::create_dir_all(&folder).unwrap();
        let errors = fs::File::create(folder.join("errors.txt")).unwrap();
        let mut command = command(&folder);
        command.current_dir(&folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}; hint: cargo xtask setup"));
        let mut program = Self { child, folder };
        for door in doors {
            program.accepts(name, *door).await;
        }
        program
    }

    async fn accepts(&mut self, name: &str, door: SocketAddrV4) {
        for _ in 0..3000 {
            if TcpStream::connect(door).await.is_ok() {
                return;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                let errors = fs::read_to_string(self.folder.join("errors.txt")).unwrap();
                panic!("{name} ended with {status}: {errors}");
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{name} never accepted at {door}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A master that is killed leaves its workers, which go on listening; one that is asked ends them. One that has ended by itself
        // is gone already.
        kill_process(Pid::from_child(&self.child), Signal::TERM).ok();
        for _ in 0..500 {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(std::time::Duration::from_millis(10)),
                Ok(Some(_)) | Err(_) => break,
            }
        }
        self.child.kill().ok();
        self.child.wait().ok();
        fs::remove_dir_all(&self.folder).ok();
    }
}

/// Where `name` lies.
pub(crate) fn find(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is not on this machine; hint: cargo xtask setup"))
}

/// The workspace's top folder.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Addresses on loopback that nobody listens at. Each is an IP address of its own: a port that is free now may be the source of
/// somebody's connection by the time that it is listened at.
pub(crate) fn free_doors<const N: usize>() -> [SocketAddrV4; N] {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let address = || Ipv4Addr::new(127, 64 | (high & 63), low, NEXT.fetch_add(1, Ordering::Relaxed));
    [(); N].map(|()| SocketAddrV4::new(address(), 8000))
}

/// nginx, which forwards what comes to the one address to the other. `http2`: it speaks that, without TLS, and nothing else.
pub(crate) async fn nginx(routes: &[(SocketAddrV4, SocketAddrV4)], http2: bool) -> Program {
    let doors: Vec<_> = routes.iter().map(|(door, _)| *door).collect();
    let listen = if http2 { " http2" } else { "" };
    let servers: String = routes
        .iter()
        .map(|(door, server)| {
            format!("server {{ listen {door}{listen}; location / {{ proxy_pass http://{server}; }} }}\n")
        })
        .collect();
    let text = format!(
        "daemon off; worker_processes 1; pid nginx.pid; error_log errors.txt;\n\
         events {{ worker_connections 512; }}\n\
         http {{ access_log off; merge_slashes off;\n\
         client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
         large_client_header_buffers 4 128k; client_header_timeout 2s; client_body_timeout 2s; keepalive_timeout 2s;\n\
         proxy_http_version 1.1; proxy_set_header Host $host; proxy_set_header Connection \"\";\n\
         proxy_buffer_size 128k; proxy_buffers 4 128k; proxy_busy_buffers_size 256k;\n\
         proxy_read_timeout 2s; proxy_ignore_client_abort on; proxy_next_upstream off;\n{servers}}}\n"
    );
    Program::start("nginx", &doors, |folder| {
        fs::write(folder.join("nginx.conf"), text).unwrap();
        let mut command = Command::new(find("nginx"));
        command.arg("-p").arg(folder).args(["-c", "nginx.conf", "-e", "errors.txt"]);
        command
    })
    .await
}

/// haproxy, likewise.
pub(crate) async fn haproxy(routes: &[(SocketAddrV4, SocketAddrV4)], http2: bool) -> Program {
    let doors: Vec<_> = routes.iter().map(|(door, _)| *door).collect();
    let proto = if http2 { " proto h2" } else { "" };
    let listens: String = routes
        .iter()
        .map(|(door, server)| format!("listen at{}\n bind {door}{proto}\n server a {server}\n", door.ip()))
        .collect();
    let text = format!(
        "global\n maxconn 500\ndefaults\n mode http\n http-reuse never\n timeout connect 2s\n timeout client 1s\n \
         timeout server 1s\n timeout http-request 1s\n{listens}"
    );
    Program::start("haproxy", &doors, |folder| {
        fs::write(folder.join("haproxy.cfg"), text).unwrap();
        let mut command = Command::new(find("haproxy"));
        command.args(["-db", "-q", "-f", "haproxy.cfg"]);
        command
    })
    .await
}

/// apache, likewise, for one route.
pub(crate) async fn apache(door: SocketAddrV4, server: SocketAddrV4) -> Program {
    let modules = ["mpm_event", "authz_core", "proxy", "proxy_http"];
    let modules =
        modules.map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"));
    let text = format!(
        "{}Listen {door}\nServerName localhost\nPidFile apache.pid\nErrorLog errors.txt\nUser nobody\nGroup nogroup\n\
         Timeout 3\nKeepAlive On\nKeepAliveTimeout 2\nMaxKeepAliveRequests 0\n\
         LimitRequestLine 131072\nLimitRequestFieldSize 131072\nLimitRequestFields 0\n\
         AllowEncodedSlashes NoDecode\nMergeSlashes Off\nTraceEnable extended\n\
         ProxyPreserveHost On\nProxy100Continue Off\nProxyPass / http://{server}/ nocanon responsefieldsize=131072\n",
        modules.concat()
    );
    Program::start("apache", &[door], |folder| {
        fs::write(folder.join("apache.conf"), text).unwrap();
        let mut command = Command::new(find("apache2"));
        command.arg("-d").arg(folder).args(["-f", "apache.conf", "-DFOREGROUND"]);
        command
    })
    .await
}

#[tokio::test]
async fn a_program_that_has_workers_leaves_none() {
    let [nginx_door, apache_door, server] = free_doors();
    for (door, program) in [
        (nginx_door, nginx(&[(nginx_door, server)], false).await),
        (apache_door, apache(apache_door, server).await),
    ] {
        drop(program);
        assert!(TcpStream::connect(door).await.is_err(), "somebody still listens at {door}");
    }
}

/// What a program says of its version, by these arguments.
pub(crate) fn version(name: &str, argument: &str) -> String {
    let output = Command::new(find(name)).arg(argument).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let found = text.split(|c: char| !(c.is_ascii_digit() || c == '.')).find(|part| part.contains('.'));
    found.unwrap_or("of an unknown version").to_owned()
}
