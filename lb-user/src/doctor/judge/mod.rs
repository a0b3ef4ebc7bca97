//! What was seen -> findings. Pure: the same observations give the same findings.

use super::Subject;
use super::finding::{Finding, line};
use super::seen::{Clients, Look, Observations, Port};

mod gateway;
mod local;
mod nodes;
mod ways;

#[cfg(test)]
mod tests;

/// How many connections from one address are no chance.
const MANY: usize = 20;

/// Judges everything, in the order in which it should be mended.
pub fn examine(subject: &Subject, seen: &Observations) -> Vec<Finding> {
    let mut findings = vec![interface(subject, &seen.interface)];
    findings.extend(local::managers(subject, &seen.managers));
    findings.extend(local::bridge(subject, seen.bridge.as_ref()));
    findings.extend(local::firewall(&seen.firewall));
    findings.extend(gateway::gateway(subject, &seen.gateway, &seen.machine));
    findings.extend(nodes::frames(subject, &seen.frames, &seen.machine));
    findings.extend(nodes::hearing(subject, &seen.hearing, &seen.machine));
    findings.push(local::machine(subject, seen));
    findings.extend(nodes::peers(subject, &seen.peers, &seen.frames));
    findings.extend(nodes::servers(&seen.servers));
    findings.push(clients(subject, &seen.clients));
    findings
}

fn interface(subject: &Subject, seen: &Result<Port, String>) -> Finding {
    const CHECK: &str = "interface";
    let name = &subject.interface;
    let port = match seen {
        Ok(port) => port,
        Err(why) => {
            let (what, hint) = crate::config::split_hint(why);
            return Finding::problem(CHECK, what)
                .because(
                    format!("{name} cannot be used for the cluster IP"),
                    hint.unwrap_or("give the node file the interface in the cluster IP's network"),
                )
                .type_in([line("here", "ip -brief address show")]);
        }
    };
    if !port.up {
        return Finding::problem(CHECK, format!("{name} is down"))
            .because("the interface is switched off", "switch it on")
            .type_in([line("here", format!("ip link set {name} up"))]);
    }
    if !port.carrier {
        return Finding::problem(CHECK, format!("{name} has no carrier"))
            .because("the cable, or what stands for it, is not connected", "connect it")
            .type_in([line("here", format!("ip -s link show {name}"))]);
    }
    if !port.has_address {
        return Finding::problem(CHECK, format!("{name} does not have {}", subject.address)).because(
            "the node's own address is on another interface, or on none",
            "give it to this interface, or correct `interface` in node.toml or the node's `address` in the cluster file",
        )
        .type_in([line("here", format!("ip address show dev {name}"))]);
    }
    Finding::ok(CHECK, format!("{name} is up and has {}", subject.address))
}

fn clients(subject: &Subject, seen: &Look<Clients>) -> Finding {
    const CHECK: &str = "clients' addresses";
    let seen = match seen {
        Look::Seen(seen) => seen,
        Look::Not(why) => return Finding::not_tested(CHECK, why),
    };
    let few = format!("too few connections to tell: {}", seen.connections);
    let Some((address, count)) = seen.most.filter(|_| seen.connections >= MANY) else {
        return Finding::not_tested(CHECK, few);
    };
    // Of a few addresses one may have most connections by chance; of one alone there is no chance.
    if seen.addresses > 1 {
        let what = format!("{} connections come from {} addresses", seen.connections, seen.addresses);
        return Finding::ok(CHECK, what);
    }
    let effect = if subject.sticks {
        "affinity puts all connections of one address on one node, so that this one serves and the others idle; limits and logs of clients know one client"
    } else {
        "limits and logs of clients know one client"
    };
    Finding::warning(CHECK, format!("all {count} connections come from {address}")).because(
        format!("the router, or a proxy before the cluster, rewrites their source; {effect}"),
        "have the router leave sources alone on the way to the cluster IP; if a proxy stands before the cluster, name it in `trusted_proxies` and use affinity none",
    )
    .type_in([
        line("pfSense, Firewall > NAT > Outbound", format!("no rule on the cluster's interface for destination {}", subject.cluster_ip)),
        line("Linux router", "nft list ruleset | grep -n -e masquerade -e snat"),
    ])
}
