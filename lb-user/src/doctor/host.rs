//! What files of this host say of who manages its network: their readers, which know no path.

/// A program that manages interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    /// NetworkManager.
    NetworkManager,
    /// systemd-networkd.
    Networkd,
}

/// Whether NetworkManager manages the interface whose `/run/NetworkManager/devices/INDEX` says `text`; `None`: it does not say.
pub(super) fn network_manager(text: &str) -> Option<bool> {
    let value = value_of(text, "managed")?;
    match value {
        "true" | "1" | "full" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// Whether systemd-networkd manages the interface whose `/run/systemd/netif/links/INDEX` says `text`; `None`: it does not say.
pub(super) fn networkd(text: &str) -> Option<bool> {
    // systemd's networkctl(1): unmanaged, pending, initialized, configuring, configured, failed, linger.
    let state = value_of(text, "ADMIN_STATE")?;
    Some(!matches!(state, "unmanaged" | "linger"))
}

fn value_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs
        .map(|(name, value)| (name.trim(), value.trim()))
        .find(|(name, _)| *name == key)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_manager_says_what_it_manages() {
        let managed = "[device]\nmanaged=true\nconnection-uuid=0fd8e4f3\nnm-owned=false\n";
        assert_eq!(network_manager(managed), Some(true));
        assert_eq!(network_manager("[device]\nmanaged=false\n"), Some(false));
        assert_eq!(network_manager("[device]\nnm-owned=false\n"), None);
    }

    #[test]
    fn networkd_says_what_it_manages() {
        let of =
            |state: &str| networkd(&format!("# do not parse\nADMIN_STATE={state}\nOPER_STATE=routable\n"));
        assert_eq!(["configured", "configuring", "unmanaged"].map(of), [Some(true), Some(true), Some(false)]);
        assert_eq!(networkd("OPER_STATE=carrier\n"), None);
    }
}
