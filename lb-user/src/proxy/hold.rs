//! What clients of Exchange hold open for long, so that what is closed at the end of a drain is told apart from what fails: a phone
//! that is told "try again" does, and nobody has lost anything. Pure.

use std::fmt;

use super::http1::Head;

/// A kind of request, or of connection, that may be open for minutes or hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hold {
    /// ActiveSync's Ping, or a Sync that waits for changes (MS-ASCMD 2.2.1.13 and 2.2.1.21).
    ActiveSync,
    /// MAPI over HTTP, whose NotificationWait is answered when something happens (MS-OXCMAPIHTTP 2.2.4.4).
    Mapi,
    /// The inbound channel of RPC over HTTP (MS-RPCH 2.1.2.1).
    RpcIn,
    /// The outbound one.
    RpcOut,
    /// Exchange Web Services, whose streaming notifications are one long answer (GetStreamingEvents).
    Ews,
    /// A WebSocket.
    WebSocket,
    /// A connection of a TCP service.
    Tcp,
    /// Anything else: a large body, or a request that its server takes long for.
    Other,
}

impl Hold {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::ActiveSync,
        Self::Mapi,
        Self::RpcIn,
        Self::RpcOut,
        Self::Ews,
        Self::WebSocket,
        Self::Tcp,
        Self::Other,
    ];

    /// What a request is, as far as its head tells.
    pub fn of(head: &Head) -> Self {
        match head.method() {
            b"POST" => Self::of_post(head.target()),
            b"RPC_IN_DATA" => Self::RpcIn,
            b"RPC_OUT_DATA" => Self::RpcOut,
            _ => Self::Other,
        }
    }

    fn of_post(target: &[u8]) -> Self {
        let under = |prefix: &str| {
            target.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
        };
        if under("/Microsoft-Server-ActiveSync") {
            Self::ActiveSync
        } else if under("/mapi/") {
            Self::Mapi
        } else if under("/EWS/") {
            Self::Ews
        } else {
            Self::Other
        }
    }

    /// Its place in [`Hold::ALL`].
    pub fn index(self) -> usize {
        Self::ALL.iter().position(|kind| *kind == self).unwrap_or_default()
    }

    /// What an operator calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ActiveSync => "ActiveSync holds",
            Self::Mapi => "MAPI notification waits",
            Self::RpcIn => "RPC_IN_DATA channels",
            Self::RpcOut => "RPC_OUT_DATA channels",
            Self::Ews => "EWS streams",
            Self::WebSocket => "WebSockets",
            Self::Tcp => "TCP connections",
            Self::Other => "other requests",
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::super::http1::HeadLimits;
    use super::*;

    #[test]
    fn a_hold_is_known_by_method_and_path_whatever_their_case() {
        for (line, hold) in [
            ("POST /Microsoft-Server-ActiveSync?Cmd=Ping&User=a", Hold::ActiveSync),
            ("POST /microsoft-server-activesync?jAAJBAp2MTQwRGV2aWNlAApTbWFydFBob25l", Hold::ActiveSync),
            ("POST /mapi/emsmdb/?MailboxId=a", Hold::Mapi),
            ("POST /EWS/Exchange.asmx", Hold::Ews),
            ("POST /ews/exchange.asmx", Hold::Ews),
            ("RPC_IN_DATA /rpc/rpcproxy.dll?sbex1:6001", Hold::RpcIn),
            ("RPC_OUT_DATA /rpc/rpcproxy.dll?sbex1:6001", Hold::RpcOut),
            ("GET /owa/ev.owa2?ns=PendingRequest", Hold::Other),
            ("POST /owa/service.svc", Hold::Other),
            ("POST /m", Hold::Other),
        ] {
            let mut head = Head::default();
            let text = format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n");
            head.read_request(text.as_bytes(), &HeadLimits::default()).unwrap();
            assert_eq!(Hold::of(&head), hold, "{line}");
        }
        for (index, hold) in Hold::ALL.into_iter().enumerate() {
            assert_eq!(hold.index(), index);
        }
    }
}
