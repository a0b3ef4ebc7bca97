//! The way from a Windows NLB cluster to this one, from its checked configuration: the new pair serves a spare cluster IP beside the old one,
//! is tried there, gets the traffic by NAT, and can lose it again. Pure: it only says what to do.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::Serialize;

use crate::config::model::{Action, Cluster, Endpoint, HEARTBEAT_PORT, Node, PEER_PORT, Site};

/// The way over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cutover {
    /// Where the new nodes serve from the first day.
    pub cluster_ip: String,
    /// Where clients go today, if it is known.
    pub windows_ip: Option<String>,
    /// In their order.
    pub steps: Vec<Step>,
    /// What firewalls have to let through before the first step.
    pub firewall: Vec<Flow>,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What it is.
    pub title: String,
    /// What to do, and what to see.
    pub text: String,
    /// Commands, a line each; `#` begins where they are run.
    pub commands: Vec<String>,
}

/// A row of the firewall's table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Flow {
    /// Who begins.
    pub from: String,
    /// Who is asked.
    pub to: String,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// The port.
    pub port: u16,
    /// What for.
    pub why: String,
}

/// Why there is no plan. It is who asked that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CutoverError {
    /// The spare address is in another network than the nodes.
    #[error("{0} is not in the network of a cluster IP; hint: a free address of {1}")]
    Elsewhere(IpAddr, String),
    /// The spare address is somebody's.
    #[error("{0} is the address of node {1}; hint: a free address of the network")]
    Taken(IpAddr, String),
    /// Nothing is published.
    #[error("the configuration publishes nothing; hint: it needs [exchange], or a [[site]] and a [[farm]]")]
    Nothing,
}

/// The way over to what `cluster` says. `spare`: the cluster IP of the new pair while `cluster` still has the one of Windows NLB; `None`:
/// `cluster` has the spare one already.
pub fn plan(cluster: &Cluster, spare: Option<IpAddr>) -> Result<Cutover, CutoverError> {
    let first = &cluster.cluster_ips[0];
    let new = spare.unwrap_or(first.address);
    if let Some(node) = cluster.nodes.iter().find(|node| IpAddr::V4(node.address) == new) {
        return Err(CutoverError::Taken(new, node.name.clone()));
    }
    if !cluster.cluster_ips.iter().any(|own| own.covers(new)) {
        return Err(CutoverError::Elsewhere(new, first.to_string()));
    }
    if cluster.sites.is_empty() && cluster.tcp.is_empty() {
        return Err(CutoverError::Nothing);
    }
    let old = (new != first.address).then_some(first.address);
    let way = Way { cluster, new, old };
    let steps = vec![
        way.firewall_first(),
        way.beside(),
        way.try_out(),
        way.fail_over(),
        way.move_nat(),
        way.back(),
        way.afterwards(),
    ];
    Ok(Cutover {
        cluster_ip: new.to_string(),
        windows_ip: old.map(|ip| ip.to_string()),
        steps,
        firewall: flows(cluster, new),
    })
}

struct Way<'a> {
    cluster: &'a Cluster,
    new: IpAddr,
    old: Option<IpAddr>,
}

impl Way<'_> {
    fn firewall_first(&self) -> Step {
        step(
            "Open the firewalls",
            "Let through what the table below says, from each node to each server: a node that reaches one server of two looks healthy, and \
             loses its clients when that one goes. Nothing of Windows is touched.",
            Vec::new(),
        )
    }

    fn beside(&self) -> Step {
        let mut commands = Vec::new();
        if let Some(old) = self.old {
            commands.push(format!("# in cluster.toml: {} in place of {old}", self.new));
        }
        let mut names = self.cluster.nodes.iter().map(|node| node.name.as_str());
        let first = names.next().unwrap_or("the first node");
        commands.push(format!(
            "# on {first}, with cluster.toml: it takes its own part of it, and the others join"
        ));
        commands
            .extend(["rollcall check cluster.toml", "rollcall init --from cluster.toml"].map(str::to_owned));
        commands.push("rollcall run          # it goes on: as a service, say".to_owned());
        for name in names {
            commands
                .push(format!("rollcall token        # on {first}: prints the line for {name}, good once"));
            commands.push(format!("# on {name}"));
            commands.push(format!("rollcall join {} --token ...", self.first_address()));
            commands.push("rollcall run".to_owned());
        }
        commands.push("# on each of them".to_owned());
        commands.extend(["rollcall doctor", "rollcall status"].map(str::to_owned));
        let text = format!(
            "The new nodes serve the spare cluster IP {}, whose cluster MAC is another than that of NLB's, in the same network. Their own \
             addresses must not be those of the Windows hosts while both run. `rollcall doctor` has to find nothing wrong, and `rollcall status` to say \
             that the cluster has converged and each server is healthy.",
            self.new
        );
        step("Raise the new pair beside Windows NLB", &text, commands)
    }

    fn first_address(&self) -> String {
        self.cluster.nodes.first().map_or(String::new(), |node| node.address.to_string())
    }

    fn try_out(&self) -> Step {
        let commands = self.cluster.sites.iter().flat_map(|site| self.probes(site)).collect();
        step(
            "Try it out under its real names",
            "From a host outside the DMZ that the firewall lets to the spare IP. Then with a real client: the names in its hosts file, Outlook, \
             a phone, OWA, and a logon by NTLM or Kerberos.",
            commands,
        )
    }

    fn probes(&self, site: &Site) -> Vec<String> {
        let Some(address) = site.listen.first() else { return Vec::new() };
        let port = address.port();
        let bracketed = match self.new {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let mut commands = Vec::new();
        for name in site.names.iter().filter(|name| !name.starts_with('*')) {
            let suffix = if port == 443 { String::new() } else { format!(":{port}") };
            for path in self.paths(site) {
                commands.push(format!(
                    "curl -sS -o /dev/null -w '%{{http_code}} %{{url_effective}}\\n' --resolve {name}:{port}:{bracketed} https://{name}{suffix}{path}"
                ));
            }
            if !site.redirect.is_empty() {
                commands.push(format!(
                    "curl -sS -o /dev/null -w '%{{http_code}} %{{redirect_url}}\\n' --resolve {name}:80:{bracketed} http://{name}/"
                ));
            }
        }
        commands
    }

    /// Where each farm of the site says that it is well.
    fn paths(&self, site: &Site) -> Vec<String> {
        let used: BTreeSet<&str> = site.service.farms().map(String::as_str).collect();
        let farms = self.cluster.farms.iter().filter(|farm| used.contains(farm.name.as_str()));
        let tests = farms.flat_map(|farm| farm.tests.iter().map(|test| test.path.clone()));
        let published = |path: &String| {
            site.service.routes.iter().any(|route| {
                matches!(route.action, Action::Farm(_)) && route.words().contains(&first_folder(path))
            })
        };
        let mut paths: Vec<String> = tests.filter(published).collect::<BTreeSet<_>>().into_iter().collect();
        if paths.is_empty() {
            paths.push("/".to_owned());
        }
        paths
    }

    fn fail_over(&self) -> Step {
        let node = self.cluster.nodes.last().map_or("", |node| node.name.as_str());
        step(
            "Take a node away",
            "While a client works: the other node has to serve all of it within a second, and share again once the first is back.",
            vec![
                format!("# on {node}"),
                "rollcall stop".to_owned(),
                "rollcall start".to_owned(),
                "rollcall history".to_owned(),
            ],
        )
    }

    fn move_nat(&self) -> Step {
        let old = self.old.map_or("the cluster IP of Windows NLB".to_owned(), |ip| ip.to_string());
        let ports: BTreeSet<u16> = self.public_ports().into_iter().map(|(port, _)| port).collect();
        let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
        let text = format!(
            "On the router, the public addresses' ports {} go to {} instead of {old}; nothing else changes. New connections come to the new pair; \
             the router's old ones stay where they are until they end. Clients inside that ask {old} by DNS follow when the record is changed: \
             lower its lifetime the day before.",
            ports.join(", "),
            self.new
        );
        step("Move the NAT", &text, vec!["rollcall events --follow".to_owned(), "rollcall farm".to_owned()])
    }

    fn back(&self) -> Step {
        let old = self.old.map_or("the cluster IP of Windows NLB".to_owned(), |ip| ip.to_string());
        let text = format!(
            "The router's NAT back to {old}. Windows NLB and ARR were not changed and run on, so this is all, at any time until they are \
             taken down; keep them for some days, and change nothing there that is not changed here.",
        );
        step("The way back", &text, Vec::new())
    }

    fn afterwards(&self) -> Step {
        let mut text = "When nothing has been missed for some days: stop Windows NLB on both hosts and take its rules out of the router and firewall."
            .to_owned();
        if let Some(old) = self.old {
            text.push_str(&format!(
                " The new pair may keep {}, or take {old} over: only after NLB is stopped, for two owners of one address serve nobody. \
                 Cluster IPs are changed while nodes serve: `rollcall config edit`.",
                self.new
            ));
        }
        step(
            "Take Windows down",
            &text,
            vec!["# on a Windows host, in PowerShell".to_owned(), "Stop-NlbCluster".to_owned()],
        )
    }

    fn public_ports(&self) -> Vec<(u16, String)> {
        public_ports(self.cluster)
    }
}

fn step(title: &str, text: &str, commands: Vec<String>) -> Step {
    Step { title: title.to_owned(), text: text.to_owned(), commands }
}

fn first_folder(path: &str) -> String {
    let folder = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    format!("/{folder}")
}

fn public_ports(cluster: &Cluster) -> Vec<(u16, String)> {
    let sites = cluster.sites.iter().flat_map(|site| {
        let name = site.names.first().cloned().unwrap_or_default();
        let redirect = site.redirect.iter().map({
            let name = name.clone();
            move |address| (address.port(), format!("{name}, redirected to https"))
        });
        site.listen
            .iter()
            .map(move |address| (address.port(), name.clone()))
            .chain(redirect)
            .collect::<Vec<_>>()
    });
    let tcp = cluster.tcp.iter().flat_map(|service| {
        service.listen.iter().map(|address| (address.port(), service.name.clone())).collect::<Vec<_>>()
    });
    sites.chain(tcp).collect()
}

/// All that has to be let through, each once.
fn flows(cluster: &Cluster, new: IpAddr) -> Vec<Flow> {
    let public = public_ports(cluster).into_iter().map(|(port, why)| Flow {
        from: "internet".to_owned(),
        to: format!("cluster IP {new}"),
        protocol: "tcp",
        port,
        why,
    });
    let of_nodes = cluster.nodes.iter().flat_map(|node| {
        let (servers, nodes) = (to_servers(cluster, node), to_nodes(cluster, node));
        servers.into_iter().chain(nodes).chain(to_the_store(cluster, node)).chain(to_the_network(node))
    });
    let mut seen = BTreeSet::new();
    let all = public.chain(of_nodes);
    all.filter(|flow| seen.insert((flow.from.clone(), flow.to.clone(), flow.protocol, flow.port))).collect()
}

/// Each server of each farm, and who answers challenges.
fn to_servers(cluster: &Cluster, node: &Node) -> Vec<Flow> {
    let of_farms =
        cluster.farms.iter().flat_map(|farm| farm.servers.iter().map(|server| (server, farm.name.clone())));
    let of_tcp = cluster.tcp.iter().flat_map(|service| {
        let pools = service.pools();
        pools
            .flat_map(|(name, servers)| servers.iter().map(move |server| (server, name.clone())))
            .collect::<Vec<_>>()
    });
    let servers = of_farms.chain(of_tcp).map(|(server, farm)| {
        let to = format!("{} {}", server.name, server.address.ip());
        flow(node, to, ("tcp", server.address.port()), &format!("farm {farm}: requests and health tests"))
    });
    let challenges = cluster.sites.iter().filter_map(|site| site.service.acme).map(|server| {
        flow(node, server.ip().to_string(), ("tcp", server.port()), "challenges of a certificate authority")
    });
    servers.chain(challenges).collect()
}

/// Each other node, on each path.
fn to_nodes(cluster: &Cluster, node: &Node) -> Vec<Flow> {
    let others = cluster.nodes.iter().filter(|other| other.name != node.name);
    let to = |other: &Node| {
        let why = "heartbeats and orders, in the DMZ's own network";
        let first = flow(node, format!("{} {}", other.name, other.address), ("udp", HEARTBEAT_PORT), why);
        let shared = Flow {
            protocol: "tcp",
            port: PEER_PORT,
            why: "the configuration that the nodes share, and joining".to_owned(),
            ..first.clone()
        };
        let second = node.second_address.zip(other.second_address).map(|(from, to)| Flow {
            from: format!("{} {from}", node.name),
            to: format!("{} {to}", other.name),
            why: "heartbeats on the second path".to_owned(),
            ..first.clone()
        });
        [Some(first), Some(shared), second].into_iter().flatten().collect::<Vec<_>>()
    };
    others.flat_map(to).collect()
}

/// Where generations are kept beside the nodes.
fn to_the_store(cluster: &Cluster, node: &Node) -> Vec<Flow> {
    let to = |endpoint: &Endpoint| {
        let (to, port) = (endpoint.address.ip().to_string(), endpoint.address.port());
        flow(node, to, ("tcp", port), "etcd, which has the configuration, too")
    };
    cluster.store.iter().flat_map(|etcd| etcd.endpoints.iter().map(to)).collect()
}

/// What the host itself needs.
fn to_the_network(node: &Node) -> [Flow; 3] {
    let names = || "DNS servers".to_owned();
    [
        flow(node, names(), ("udp", 53), "names in the host's own work; the proxy looks up none"),
        flow(node, names(), ("tcp", 53), "the same, long answers"),
        flow(node, "NTP servers".to_owned(), ("udp", 123), "the clock, for certificates and logs"),
    ]
}

fn flow(node: &Node, to: String, (protocol, port): (&'static str, u16), why: &str) -> Flow {
    Flow { from: format!("{} {}", node.name, node.address), to, protocol, port, why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::cluster_of;

    const CLUSTER: &str = "[cluster]\nip = \"192.168.50.8/24\"\nmode = \"multicast\"\n\
        [[node]]\nname = \"arr1\"\naddress = \"192.168.50.6\"\npriority = 1\n[[node]]\nname = \"arr2\"\naddress = \"192.168.50.7\"\npriority = 2\n";
    const EXCHANGE: &str = "[exchange]\nnames = [\"mail.example.test\", \"*.example.test\"]\ncertificate = \"/m.pem\"\nservers = [\"10.0.0.36\", \"10.0.0.37\"]\n";

    fn cluster(text: &str) -> Cluster {
        cluster_of(text.as_bytes(), std::path::Path::new("cluster.toml"))
            .unwrap_or_else(|errors| panic!("{errors}"))
    }

    #[test]
    fn each_node_needs_each_server_and_each_other_node() {
        let plan =
            plan(&cluster(&format!("{CLUSTER}{EXCHANGE}")), Some("192.168.50.9".parse().unwrap())).unwrap();
        let said: Vec<String> = plan
            .firewall
            .iter()
            .map(|f| format!("{} > {} {} {}", f.from, f.to, f.protocol, f.port))
            .collect();
        assert_eq!(
            said,
            [
                "internet > cluster IP 192.168.50.9 tcp 443",
                "internet > cluster IP 192.168.50.9 tcp 80",
                "arr1 192.168.50.6 > 10.0.0.36 10.0.0.36 tcp 443",
                "arr1 192.168.50.6 > 10.0.0.37 10.0.0.37 tcp 443",
                "arr1 192.168.50.6 > arr2 192.168.50.7 udp 7644",
                "arr1 192.168.50.6 > arr2 192.168.50.7 tcp 7645",
                "arr1 192.168.50.6 > DNS servers udp 53",
                "arr1 192.168.50.6 > DNS servers tcp 53",
                "arr1 192.168.50.6 > NTP servers udp 123",
                "arr2 192.168.50.7 > 10.0.0.36 10.0.0.36 tcp 443",
                "arr2 192.168.50.7 > 10.0.0.37 10.0.0.37 tcp 443",
                "arr2 192.168.50.7 > arr1 192.168.50.6 udp 7644",
                "arr2 192.168.50.7 > arr1 192.168.50.6 tcp 7645",
                "arr2 192.168.50.7 > DNS servers udp 53",
                "arr2 192.168.50.7 > DNS servers tcp 53",
                "arr2 192.168.50.7 > NTP servers udp 123",
            ]
        );
    }

    #[test]
    fn names_are_tried_at_the_spare_address_and_nothing_is_said_of_wildcards() {
        let plan =
            plan(&cluster(&format!("{CLUSTER}{EXCHANGE}")), Some("192.168.50.9".parse().unwrap())).unwrap();
        let commands: Vec<&String> = plan.steps.iter().flat_map(|step| &step.commands).collect();
        let probe =
            "--resolve mail.example.test:443:192.168.50.9 https://mail.example.test/owa/healthcheck.htm";
        assert!(commands.iter().any(|command| command.ends_with(probe)), "{commands:?}");
        assert!(commands.iter().any(|command| {
            command.ends_with("--resolve mail.example.test:80:192.168.50.9 http://mail.example.test/")
        }));
        assert!(!commands.iter().any(|command| command.contains("*.")), "{commands:?}");
        let text: String = plan.steps.iter().map(|step| step.text.as_str()).collect();
        assert!(
            text.contains("443 go to 192.168.50.9 instead of 192.168.50.8")
                && text.contains("NAT back to 192.168.50.8"),
            "{text}"
        );
    }

    #[test]
    fn an_address_that_cannot_be_the_spare_one_is_refused() {
        let exchange = cluster(&format!("{CLUSTER}{EXCHANGE}"));
        for (spare, wanted) in [("192.168.50.6", "node arr1"), ("10.9.9.9", "not in the network")] {
            let error = plan(&exchange, Some(spare.parse().unwrap())).unwrap_err().to_string();
            assert!(error.contains(wanted) && error.contains("hint: "), "{spare}: {error}");
        }
        let rule = "[[rule]]\nports = 443\n";
        assert_eq!(plan(&cluster(&format!("{CLUSTER}{rule}")), None), Err(CutoverError::Nothing));
    }
}
