//! This node's own file.

use super::{Problems, absolute};
use crate::config::model::{Local, Node, XdpChoice};
use crate::config::problem::Problem;
use crate::config::raw::NodeFile;
use crate::config::spanned::Spanned;

/// The checked facts of this node.
pub(super) fn local(raw: &NodeFile, nodes: &[Node], problems: &mut Problems) -> Option<Local> {
    let name = raw.name.get_ref();
    if !nodes.iter().any(|node| node.name == *name) {
        let known: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        let text = format!("the cluster has no node named \"{name}\"");
        problems.add(Problem::at(raw.name.span(), text).hint(format!("its nodes: {}", known.join(", "))));
    }
    facts(raw, problems)
}

/// The same, whatever the cluster's nodes are.
pub(super) fn facts(raw: &NodeFile, problems: &mut Problems) -> Option<Local> {
    let interface =
        problems.require(interface_name(raw.interface.get_ref()), || no_interface(&raw.interface));
    let xdp_interface = match &raw.xdp_interface {
        Some(written) => {
            problems.require(interface_name(written.get_ref()).map(Some), || no_interface(written))
        }
        None => Some(None),
    };
    let vlans = vlans(raw, problems);
    let choices = [("auto", XdpChoice::Auto), ("native", XdpChoice::Native), ("generic", XdpChoice::Generic)];
    let xdp = problems.choice("xdp", &raw.xdp, &choices);
    let secret_file = absolute("secret_file", &raw.secret_file, problems);
    let key_file = absolute("key_file", &raw.key_file, problems);
    let run_dir = absolute("run_dir", &raw.run_dir, problems);
    let state_dir = absolute("state_dir", &raw.state_dir, problems);
    let on_event = match &raw.on_event {
        Some(written) => absolute("on_event", written, problems).map(Some),
        None => Some(None),
    };
    let access_log = match &raw.access_log {
        Some(written) => absolute("access_log", written, problems).map(Some),
        None => Some(None),
    };
    let children =
        [(&raw.proxy_user, "the proxy", "proxy"), (&raw.peer_user, "what talks to other nodes", "peer")];
    for (user, who, name) in children {
        if user.get_ref() == "root" || user.get_ref() == "0" {
            let text = format!("{who} cannot run as root: it reads bytes of strangers");
            let hint = format!("useradd --system --shell /usr/sbin/nologin rollcall-{name}");
            problems.add(Problem::at(user.span(), text).hint(hint));
        }
    }
    Some(Local {
        name: raw.name.get_ref().clone(),
        interface: interface?,
        xdp_interface: xdp_interface?,
        vlans: vlans?,
        secret_file: secret_file?,
        key_file: key_file?,
        proxy_user: raw.proxy_user.get_ref().clone(),
        peer_user: raw.peer_user.get_ref().clone(),
        run_dir: run_dir?,
        state_dir: state_dir?,
        on_event: on_event?,
        access_log: access_log?,
        syslog: raw.syslog,
        xdp: xdp?,
    })
}

fn no_interface(raw: &Spanned<String>) -> Problem {
    let text = format!("\"{}\" cannot be an interface's name", raw.get_ref());
    Problem::at(raw.span(), text).hint("`ip -br link` lists them")
}

/// The tags of frames at `xdp_interface`.
fn vlans(raw: &NodeFile, problems: &mut Problems) -> Option<Vec<u16>> {
    if let Some(first) = raw.vlans.first()
        && (raw.xdp_interface.is_none() || raw.vlans.len() > 2)
    {
        let text = "`vlans` names one or two tags of frames at `xdp_interface`";
        let hint =
            "xdp_interface = \"eth0\" and vlans = [100], where `interface` is the VLAN interface eth0.100";
        problems.add(Problem::at(first.span(), text).hint(hint));
        return None;
    }
    raw.vlans.iter().map(|vlan| problems.number("vlans", vlan, 1..=4094)).collect()
}

/// What the kernel takes for an interface's name (dev_valid_name).
fn interface_name(text: &str) -> Option<String> {
    let fits = |c: char| !c.is_whitespace() && !c.is_control() && c != '/' && c != ':';
    let sound = (1..=15).contains(&text.len()) && text.chars().all(fits) && text != "." && text != "..";
    sound.then(|| text.to_owned())
}
