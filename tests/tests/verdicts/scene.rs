//! The cluster that the frames of these tests meet, as an operator would describe it; and what the data path makes of that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use lb_common::address::Address;
use lb_common::packet::protocol;
use lb_common::table::{Affinity, BucketState, BucketTable, Config, PortRules, Rule, Vips};
use lb_common::verdict::LocalSocket;
use rollcall_tests::verdicts::{Kernel, Outcome, Setting};

use crate::frames::{CLUSTER_MAC, OWN_MAC, Pair};

pub(crate) const VIP4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 50, 8));
pub(crate) const VIP6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x50, 0, 0, 0, 0, 8));
/// A second cluster IP of each family, with a rule of its own for port 443.
pub(crate) const OTHER_VIP4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 50, 9));
pub(crate) const OTHER_VIP6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x50, 0, 0, 0, 0, 9));
/// This node's own addresses.
pub(crate) const OWN4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 50, 6));
pub(crate) const OWN6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x50, 0, 0, 0, 0, 6));
pub(crate) const ROUTER4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 50, 1));
pub(crate) const ROUTER6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));
pub(crate) const CLIENT4: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));
pub(crate) const CLIENT6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 1, 2, 3, 4));
pub(crate) const V4: Pair = Pair { client: CLIENT4, vip: VIP4 };
pub(crate) const V6: Pair = Pair { client: CLIENT6, vip: VIP6 };
pub(crate) const HEARING_PORT: u16 = 7946;

/// A port rule; the first that fits counts.
#[derive(Clone, Debug)]
pub(crate) struct PortRule {
    /// For one cluster IP alone, or for all.
    pub(crate) vip: Option<IpAddr>,
    pub(crate) protocol: u8,
    pub(crate) ports: RangeInclusive<u16>,
    pub(crate) table: u8,
    pub(crate) affinity: Affinity,
    pub(crate) enabled: bool,
    pub(crate) local: bool,
    pub(crate) sticky: bool,
}

impl PortRule {
    const fn tcp(ports: RangeInclusive<u16>, table: u8, affinity: Affinity) -> Self {
        let protocol = protocol::TCP;
        Self { vip: None, protocol, ports, table, affinity, enabled: true, local: true, sticky: false }
    }

    const fn udp(ports: RangeInclusive<u16>, table: u8, affinity: Affinity) -> Self {
        Self { protocol: protocol::UDP, ..Self::tcp(ports, table, affinity) }
    }

    pub(crate) fn fits(&self, vip: IpAddr, protocol: u8, port: u16) -> bool {
        self.protocol == protocol && self.ports.contains(&port) && self.vip.is_none_or(|own| own == vip)
    }
}

/// The owner tables: 0 is rule 0's and other `single` rules', the rest are `multiple`.
pub(crate) const SINGLE: u8 = 0;
pub(crate) const TABLES: usize = 4;

/// The numbers of the rules in [`Scene::new`].
pub(crate) const OTHERS_HTTPS: u8 = 1;
pub(crate) const HTTPS: u8 = 2;
pub(crate) const AFFINE: u8 = 3;
pub(crate) const SMTP: u8 = 4;
pub(crate) const TELNET: u8 = 5;
pub(crate) const NETWORK: u8 = 6;
pub(crate) const CONTAINER: u8 = 7;
pub(crate) const STICKY: u8 = 8;
pub(crate) const LAST_PORTS: u8 = 9;
pub(crate) const QUIC: u8 = 10;
pub(crate) const DNS: u8 = 11;
pub(crate) const FIRST_PORTS: u8 = 12;
pub(crate) const NO_NTP: u8 = 13;

/// A cluster.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) vips: Vec<IpAddr>,
    /// Rule 1 and so on.
    pub(crate) rules: Vec<PortRule>,
    pub(crate) seed: [u64; 2],
    pub(crate) vlans: [u16; 2],
    /// What no rule names goes to the default host.
    pub(crate) default_host: bool,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let network = Affinity::Network { v4: 24, v6: 64 };
        let rules = vec![
            PortRule {
                vip: Some(OTHER_VIP4),
                ..PortRule::tcp(443..=443, 2, Affinity::Network { v4: 20, v6: 48 })
            },
            PortRule::tcp(443..=445, 1, Affinity::None),
            PortRule::tcp(8000..=8010, 1, Affinity::Single),
            PortRule::tcp(25..=25, SINGLE, Affinity::Single),
            PortRule { enabled: false, ..PortRule::tcp(23..=23, 1, Affinity::None) },
            PortRule::tcp(9000..=9000, 2, network),
            PortRule { local: false, ..PortRule::tcp(10_443..=10_443, 1, Affinity::None) },
            PortRule { sticky: true, ..PortRule::tcp(143..=143, 3, Affinity::Single) },
            PortRule::tcp(65_530..=65_535, 1, Affinity::None),
            PortRule::udp(443..=443, 1, Affinity::None),
            PortRule { sticky: true, ..PortRule::udp(53..=53, 3, Affinity::Single) },
            PortRule::udp(0..=9, SINGLE, Affinity::Single),
            PortRule { enabled: false, ..PortRule::udp(123..=123, 1, Affinity::None) },
        ];
        let vips = vec![VIP4, VIP6, OTHER_VIP4, OTHER_VIP6];
        Self { vips, rules, seed: [1, 2], vlans: [0; 2], default_host: false }
    }

    /// The data path's view of it: the lease lives, and every bucket is another node's.
    pub(crate) fn setting(&self) -> Setting {
        let places =
            self.vips.iter().zip(0..).map(|(vip, number)| (Address::from(*vip), 2 * number, 2 * number + 1));
        let mut config = Config {
            seed: self.seed,
            vips: Vips::new(&places.collect::<Vec<_>>()).unwrap(),
            vlans: self.vlans,
            cluster_mac: CLUSTER_MAC,
            own_mac: OWN_MAC,
            hearing_port: HEARING_PORT,
            ..Config::EMPTY
        };
        config.rules[0].enabled = u8::from(self.default_host);
        for (rule, place) in self.rules.iter().zip(&mut config.rules[1..]) {
            *place = Rule {
                enabled: rule.enabled.into(),
                local: rule.local.into(),
                sticky: rule.sticky.into(),
                ..Rule::new(rule.table, rule.affinity)
            };
        }
        Setting {
            config,
            port_lists: self.port_lists(),
            tables: vec![BucketTable::filled(BucketState::Other); TABLES],
            lease: true,
            socket: LocalSocket::None,
        }
    }

    /// Two for each cluster IP: TCP, UDP.
    fn port_lists(&self) -> Vec<PortRules> {
        let mut lists = vec![PortRules([0; 65_536]); 2 * self.vips.len()];
        let keys = self.vips.iter().flat_map(|vip| [(*vip, protocol::TCP), (*vip, protocol::UDP)]);
        for ((vip, protocol), list) in keys.zip(&mut lists) {
            // The last first: the first that fits stays.
            for (number, rule) in self.rules.iter().enumerate().rev() {
                if rule.fits(vip, protocol, *rule.ports.start()) {
                    let ports = usize::from(*rule.ports.start())..=usize::from(*rule.ports.end());
                    list.0[ports].fill(number as u8 + 1);
                }
            }
        }
        lists
    }
}

/// Every bucket of every table in `state`.
pub(crate) fn fill(setting: &mut Setting, state: BucketState) {
    setting.tables.fill(BucketTable::filled(state));
}

/// Every bucket state, with and without a lease.
pub(crate) fn states() -> Vec<(BucketState, bool)> {
    let states = [BucketState::Mine, BucketState::Other, BucketState::Arriving, BucketState::Departing];
    states.iter().flat_map(|&state| [(state, true), (state, false)]).collect()
}

/// Feeds a frame to the kernel and to the host, which must agree in everything.
pub(crate) fn feed_both(kernel: &mut Kernel, setting: &Setting, frame: &[u8]) -> Outcome {
    let on_the_host = setting.feed(frame);
    let in_kernel = kernel.feed(frame, &on_the_host).unwrap();
    assert_eq!(in_kernel, on_the_host, "the kernel (left) and the host disagree");
    in_kernel
}
