//! TCP services as the file could have them.

use std::fmt;

use super::{ServerEntry, networks, quoted, time};
use crate::config::model::{Server, TcpService};

/// `[[tcp]]`.
pub(super) struct TcpTable<'a>(pub(super) &'a TcpService);

impl fmt::Display for TcpTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let service = self.0;
        writeln!(f, "[[tcp]]\nname = {}", quoted(&service.name))?;
        if let Some(address) = service.listen.first() {
            writeln!(f, "port = {}", address.port())?;
        }
        if !service.servers.is_empty() {
            writeln!(f, "servers = [{}]", servers(&service.servers))?;
        }
        writeln!(f, "client_address = \"{}\"", service.client_address.as_str())?;
        writeln!(f, "idle_timeout = {}", time(service.idle_timeout))?;
        writeln!(f, "connect_timeout = {}", time(service.connect_timeout))?;
        writeln!(f, "max_connections = {}", service.max_connections)?;
        writeln!(f, "max_connections_per_client = {}", service.max_connections_per_client)?;
        writeln!(f, "allow = {}\ndeny = {}", networks(&service.allow), networks(&service.deny))?;
        writeln!(f, "[tcp.health]")?;
        match &service.health.banner {
            Some(banner) => writeln!(f, "banner = {}", quoted(banner))?,
            None => writeln!(f, "tcp = true")?,
        }
        let health = &service.health;
        writeln!(f, "interval = {}\ntimeout = {}", time(health.interval), time(health.timeout))?;
        writeln!(f, "failures = {}", health.failures)?;
        if !service.sni.is_empty() {
            writeln!(f, "[tcp.sni]")?;
        }
        service.sni.iter().try_for_each(|(name, list)| writeln!(f, "{} = [{}]", quoted(name), servers(list)))
    }
}

fn servers(servers: &[Server]) -> String {
    servers.iter().map(|server| ServerEntry(server).to_string()).collect::<Vec<_>>().join(", ")
}
