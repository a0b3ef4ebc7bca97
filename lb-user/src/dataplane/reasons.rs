//! What the reasons of verdicts mean to an operator: to whom a packet is left, and in which words.

use lb_common::verdict::Reason;

/// What became of a packet, in an operator's eyes. "Dropped" alone would alarm: every node hears every packet, and drops all
/// that another answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It is for no cluster IP.
    NotOurs,
    /// It asked for the cluster MAC, or is between nodes.
    Cluster,
    /// To this host.
    Passed,
    /// Dropped, because another node answers it, or may.
    LeftToOthers,
    /// Dropped, because no node may answer it, or this one may not now.
    Refused,
}

/// What `reason` is to an operator.
pub const fn class(reason: Reason) -> Class {
    match reason {
        Reason::OtherProtocolFamily
        | Reason::Short
        | Reason::Vlan
        | Reason::OtherArp
        | Reason::OtherAddress => Class::NotOurs,
        Reason::ArpAnswered
        | Reason::NeighbourAnswered
        | Reason::ArpNoLease
        | Reason::NeighbourNoLease
        | Reason::Announcement
        | Reason::HearingTest => Class::Cluster,
        Reason::Mine
        | Reason::NewMine
        | Reason::NewArriving
        | Reason::Arriving
        | Reason::LocalOpen
        | Reason::LocalTimeWait
        | Reason::LocalHalfOpen
        | Reason::LocalCookie
        | Reason::Fragment
        | Reason::IcmpError
        | Reason::Echo => Class::Passed,
        Reason::Other
        | Reason::NewDeparting
        | Reason::Departing
        | Reason::NoSocket
        | Reason::ListenerOnly
        | Reason::HalfOpenOther
        | Reason::IcmpErrorOther
        | Reason::EchoOther => Class::LeftToOthers,
        Reason::NewNoLease
        | Reason::NoLease
        | Reason::RuleDisabled
        | Reason::Unmatched
        | Reason::FragmentNoLease
        | Reason::BadQuote
        | Reason::EchoNoLease
        | Reason::OtherIcmp
        | Reason::OtherProtocol
        | Reason::Truncated
        | Reason::BadIpHeader
        | Reason::TooManyHeaders
        | Reason::BadTcpHeader => Class::Refused,
    }
}

/// Why, as what follows "because".
pub const fn meaning(reason: Reason) -> &'static str {
    match reason {
        Reason::OtherProtocolFamily => "it is neither IP nor ARP",
        Reason::Short => "it is too short to say where it goes",
        Reason::Vlan => "it is of another VLAN",
        Reason::OtherArp => "it asks for no cluster IP",
        Reason::OtherAddress => "its destination is no cluster IP",
        Reason::ArpAnswered | Reason::NeighbourAnswered => "it asks for a cluster IP's MAC address",
        Reason::ArpNoLease | Reason::NeighbourNoLease => {
            "it asks for a cluster IP's MAC address, and the node may not serve"
        }
        Reason::Announcement => "a node of the cluster announces a cluster IP with it",
        Reason::HearingTest => "a node tests with it who hears the cluster MAC",
        Reason::Mine | Reason::NewMine => "its bucket is the node's alone",
        Reason::NewArriving => "its bucket comes to the node, and it opens a connection",
        Reason::Arriving => "its bucket comes to the node",
        Reason::LocalOpen => "the node has the connection",
        Reason::LocalTimeWait => "the node had the connection until lately",
        Reason::LocalHalfOpen => "the node has the connection request that it confirms or resets",
        Reason::LocalCookie => "it confirms a SYN cookie of the node",
        Reason::Fragment => "only the node that passed its first fragment can complete it",
        Reason::IcmpError => "it is about a flow that the node has or may have",
        Reason::Echo => "the node is the one to answer echo requests",
        Reason::Other => "its bucket is another node's",
        Reason::NewDeparting => "its bucket leaves the node, and it opens a connection",
        Reason::Departing => "its bucket leaves the node",
        Reason::NoSocket => "the node has no such connection, and another may",
        Reason::ListenerOnly => "the node only listens there, and another may have the connection",
        Reason::HalfOpenOther => "it confirms another node's SYN-ACK",
        Reason::IcmpErrorOther => "it is about another node's flow",
        Reason::EchoOther => "another node answers echo requests",
        Reason::NewNoLease => "it opens a connection, and the node has no lease",
        Reason::NoLease | Reason::EchoNoLease | Reason::FragmentNoLease => "the node has no lease",
        Reason::RuleDisabled => "its port rule's filtering mode is disabled",
        Reason::Unmatched => "no port rule names its port",
        Reason::BadQuote => "it quotes no packet of a cluster IP, or too little of it",
        Reason::OtherIcmp => "it is ICMP, but neither echo nor an error",
        Reason::OtherProtocol => "it is neither TCP, UDP nor ICMP",
        Reason::Truncated => "it ends inside a header",
        Reason::BadIpHeader => "its IP header is impossible",
        Reason::TooManyHeaders => "it has more headers than are read",
        Reason::BadTcpHeader => "its TCP header is impossible",
    }
}

#[cfg(test)]
mod tests {
    use lb_common::verdict::Action;

    use super::*;

    /// The two sides of the status must add up to what the program does.
    #[test]
    fn what_counts_as_passed_passes_and_what_is_left_or_refused_is_dropped() {
        for &reason in Reason::ALL {
            let action = match class(reason) {
                Class::NotOurs => Action::Untouched,
                Class::Passed => Action::Accept,
                Class::LeftToOthers | Class::Refused => Action::Drop,
                Class::Cluster => continue,
            };
            assert_eq!(reason.action(), action, "{reason:?}");
        }
    }
}
