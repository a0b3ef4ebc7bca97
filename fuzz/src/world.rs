//! What the frames of the fuzzer meet. The first bytes of an input choose it, the rest is the frame.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::address::Address;
use lb_common::packet::{Ip, Tcp};
use lb_common::table::{Affinity, Bucket, BucketState, Config, Rule, Vips};
use lb_common::verdict::{LocalSocket, World};

/// How many bytes of an input choose the world.
pub(crate) const CHOICE: usize = 3;

pub(crate) const VIP4: [u8; 4] = [192, 168, 50, 8];
pub(crate) const VIP6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 0x50, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8];
pub(crate) const HEARING_PORT: u16 = 7946;
pub(crate) const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 6];
pub(crate) const CLUSTER_MAC: [u8; 6] = [3, 0xbf, 192, 168, 50, 8];

/// Chooses among all worlds; as the first bytes of an input.
#[derive(Clone, Copy)]
pub(crate) struct Choice(pub(crate) [u8; CHOICE]);

/// All that a verdict depends on beside the frame.
pub(crate) struct Chosen {
    config: Config,
    lease: bool,
    state: u8,
    socket: LocalSocket,
}

impl Choice {
    pub(crate) fn world(self) -> Chosen {
        let Self([flags, state, socket]) = self;
        let flag = |bit: u32| flags >> bit & 1 != 0;
        let vlans = if flag(0) {
            [7, 0]
        } else if flag(1) {
            [5, 7]
        } else {
            [0, 0]
        };
        let config = config(vlans, flag(2), flag(3));
        Chosen { config, lease: !flag(4), state, socket: SOCKETS[usize::from(socket) % SOCKETS.len()] }
    }
}

const SOCKETS: [LocalSocket; 7] = [
    LocalSocket::None,
    LocalSocket::Listener { cookie_ok: false },
    LocalSocket::Listener { cookie_ok: true },
    LocalSocket::HalfOpen { ack_ok: false },
    LocalSocket::HalfOpen { ack_ok: true },
    LocalSocket::Open,
    LocalSocket::TimeWait,
];

fn config(vlans: [u16; 2], default_host: bool, observe: bool) -> Config {
    let vips = [IpAddr::V4(Ipv4Addr::from(VIP4)), IpAddr::V6(Ipv6Addr::from(VIP6))];
    let vips = vips.map(|vip| (Address::from(vip), 0, 1));
    let mut config = Config {
        seed: [1, 2],
        vips: Vips::new(&vips).expect("two addresses have places"),
        vlans,
        cluster_mac: CLUSTER_MAC,
        own_mac: OWN_MAC,
        observe: observe.into(),
        hearing_port: HEARING_PORT,
        ..Config::EMPTY
    };
    config.rules[0].enabled = default_host.into();
    config.rules[1] = Rule::new(1, Affinity::None);
    config.rules[2] = Rule { sticky: 1, ..Rule::new(2, Affinity::Network { v4: 24, v6: 64 }) };
    config.rules[3] = Rule { local: 0, ..Rule::new(1, Affinity::Single) };
    config.rules[4] = Rule::DISABLED;
    config
}

impl World for Chosen {
    fn config(&self) -> &Config {
        &self.config
    }

    fn rule_of(&self, list: u8, port: u16) -> usize {
        match (list, port) {
            (_, 443) => 1,
            (0, 143) | (1, 53) => 2,
            (0, 8443) => 3,
            (_, 23) => 4,
            _ => 0,
        }
    }

    fn bucket_state(&self, _table: u8, bucket: Bucket) -> BucketState {
        // All alike, or each otherwise.
        let state = if self.state < 4 { self.state } else { bucket.index() as u8 % 4 };
        BucketState::from_byte(state)
    }

    fn local(&self, _ip: &Ip, _tcp: &Tcp) -> LocalSocket {
        self.socket
    }

    fn lease_lives(&self) -> bool {
        self.lease
    }
}
