//! Attaching, replacing and taking away the XDP program, on a veth pair in a network namespace of the test's own.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use lb_common::table::{BucketState, BucketTable, Config, PortRules};
use lb_user::clock::Time;
use lb_user::config::model::{Filtering, XdpChoice};
use lb_user::dataplane::{self, Dataplane, Plan, TablePlan};
use rollcall_tests::netns::{in_own_netns, run};

#[test]
fn a_program_is_attached_replaced_and_taken_away() {
    in_own_netns(|| {
        for choice in [XdpChoice::Auto, XdpChoice::Generic, XdpChoice::Native] {
            let pins = veth_and_pins();
            let mut first = Dataplane::attach(&plan(), "v0", choice, &pins.0).unwrap();
            let status = first.status();
            assert_eq!(status.xdp == "native", choice == XdpChoice::Native, "{status:?}");
            assert_eq!(status.tc_companion, choice == XdpChoice::Native, "{status:?}");
            let (mut tables, mut lease) = first.writers();
            for _ in 0..9 {
                tables.apply(&[BucketTable::filled(BucketState::Mine)]).unwrap();
            }
            lease.renew(Time::from_nanos(77)).unwrap();
            let before = attached("v0");
            drop((first, tables, lease));
            assert_eq!(
                attached("v0"),
                before,
                "an agent that ends leaves its program attached"
            );

            let second = Dataplane::attach(&plan(), "v0", choice, &pins.0).unwrap();
            assert_ne!(attached("v0"), before, "the program was replaced");
            dataplane::replace_without_lease_check(&plan(), "v0", &pins.0).unwrap();
            second.detach().unwrap();
            assert_eq!(attached("v0"), None);
            assert!(!pins.0.exists());
            run("ip link del v0").unwrap();
        }
    });
}

/// A veth pair, and a folder for pins that goes with the guard.
fn veth_and_pins() -> Pins {
    run("ip link add v0 type veth peer name v1").unwrap();
    run("ip link set v0 up").unwrap();
    run("ip link set v1 up").unwrap();
    Pins(dataplane::pins_of("v0").unwrap())
}

struct Pins(PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = dataplane::cleanup(&self.0);
    }
}

/// The XDP program that `ip` sees on an interface.
fn attached(interface: &str) -> Option<u64> {
    let output = std::process::Command::new("ip")
        .args(["-json", "link", "show", "dev", interface])
        .output()
        .unwrap();
    let links: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    links[0]["xdp"]["prog"]["id"].as_u64()
}

fn plan() -> Plan {
    Plan {
        config: Config {
            cluster_ips: [[192, 168, 50, 8]; 8],
            cluster_ip_count: 1,
            ..Config::EMPTY
        },
        port_rules: Box::new(PortRules([0; 65_536])),
        tables: vec![TablePlan {
            filtering: Filtering::Single,
            ports: vec![],
        }],
    }
}
