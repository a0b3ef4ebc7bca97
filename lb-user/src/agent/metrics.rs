//! What is counted on a node, as one OpenMetrics text: what the proxy says of itself, then the packets. Pure.

use std::collections::BTreeMap;

use crate::control::api::Count;
use crate::proxy::metrics::text::{END, Exposition, Kind};

/// The text: that of the proxy, which ends as such a text does, and the packets by what became of them.
pub(super) fn text(proxy: Option<&str>, reasons: &BTreeMap<String, Count>) -> String {
    let mut out = Exposition::following(proxy.map_or("", |text| text.strip_suffix(END).unwrap_or(text)));
    let help = "Packets by what became of them, as rollcall status names the reasons.";
    out.family(Kind::Counter, "rollcall_packets", "", help);
    for (reason, count) in reasons {
        out.counter(&[("reason", reason)], count.packets);
    }
    out.family(Kind::Counter, "rollcall_packets_bytes", "bytes", "Bytes of these packets.");
    for (reason, count) in reasons {
        out.counter(&[("reason", reason)], count.bytes);
    }
    out.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packets_follow_what_the_proxy_says() {
        let reasons = BTreeMap::from([("mine".to_owned(), Count { packets: 3, bytes: 180 })]);
        let packets = "# TYPE rollcall_packets counter\n# HELP rollcall_packets Packets by what became of them, as rollcall status \
                       names the reasons.\nrollcall_packets_total{reason=\"mine\"} 3\n# TYPE rollcall_packets_bytes counter\n# UNIT \
                       rollcall_packets_bytes bytes\n# HELP rollcall_packets_bytes Bytes of these packets.\n\
                       rollcall_packets_bytes_total{reason=\"mine\"} 180\n# EOF\n";
        assert_eq!(text(None, &reasons), packets);
        let proxy = "# TYPE a counter\na_total 1\n# EOF\n";
        assert_eq!(text(Some(proxy), &reasons), format!("# TYPE a counter\na_total 1\n{packets}"));
    }
}
