//! Messages are what they were, and nothing else is one.

use proptest::prelude::*;

use super::*;

fn name() -> impl Strategy<Value = String> {
    "[a-zé]{1,30}"
}

fn key() -> impl Strategy<Value = VerifyingKey> {
    any::<[u8; 32]>().prop_map(VerifyingKey)
}

fn node() -> impl Strategy<Value = Node> {
    (name(), any::<Ipv4Addr>(), key()).prop_map(|(name, address, key)| Node { name, address, key })
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        name().prop_map(Target::Node),
        (any::<Ipv4Addr>(), key()).prop_map(|(address, key)| Target::Stranger { address, key }),
    ]
}

fn down() -> impl Strategy<Value = Down> {
    let nodes = || proptest::collection::vec(node(), 0..5);
    prop_oneof![
        (name(), any::<[u8; 32]>(), nodes()).prop_map(|(me, seed, nodes)| Down::Start(Box::new(Start {
            me,
            seed: Seed(seed),
            nodes
        }))),
        nodes().prop_map(Down::Nodes),
        any::<u8>().prop_map(Down::Admit),
        (any::<u64>(), any::<u64>(), target(), any::<Vec<u8>>()).prop_map(
            |(number, millis, target, bytes)| {
                Down::Call { number, within: Duration::from_millis(millis), target, bytes }
            }
        ),
        (any::<u64>(), any::<Option<Vec<u8>>>()).prop_map(|(number, bytes)| Down::Answer { number, bytes }),
    ]
}

fn why() -> impl Strategy<Value = Why> {
    let trouble = [
        Trouble::Silent,
        Trouble::NoPeer,
        Trouble::Closed,
        Trouble::Garbled,
        Trouble::Removed,
        Trouble::Restarted,
    ];
    let plain = [Why::Unlisted, Why::Refused, Why::Busy, Why::TimedOut, Why::NoSuchNode];
    prop_oneof![
        any::<i32>().prop_map(|errno| Why::Unreachable(Trouble::System(errno))),
        proptest::sample::select(trouble.to_vec()).prop_map(Why::Unreachable),
        proptest::sample::select(plain.to_vec()),
        key().prop_map(Why::OtherKey),
    ]
}

fn asker() -> impl Strategy<Value = Asker> {
    prop_oneof![
        name().prop_map(Asker::Node),
        (key(), any::<IpAddr>(), any::<[u8; 32]>()).prop_map(|(key, address, binding)| Asker::Stranger {
            key,
            address: address.to_canonical(),
            binding
        }),
    ]
}

fn up() -> impl Strategy<Value = Up> {
    prop_oneof![
        Just(Up::Alive),
        (any::<u64>(), any::<[u8; 32]>(), any::<Vec<u8>>())
            .prop_map(|(number, binding, bytes)| Up::Returned { number, result: Ok((binding, bytes)) }),
        (any::<u64>(), why()).prop_map(|(number, why)| Up::Returned { number, result: Err(why) }),
        (any::<u64>(), asker(), any::<Vec<u8>>()).prop_map(|(number, from, bytes)| Up::Asked {
            number,
            from,
            bytes
        }),
        (name(), proptest::option::of(why())).prop_map(|(node, why)| Up::Reachable { node, why }),
    ]
}

fn within(limits: fn(u8) -> Option<usize>, frame: &Frame) -> bool {
    limits(frame.kind).is_some_and(|limit| frame.body.len() <= limit)
}

proptest! {
    #[test]
    fn what_goes_down_comes_out_as_it_was_and_fits(down in down()) {
        let frame = down.clone().into_frame();
        prop_assert!(within(Down::limits, &frame));
        prop_assert_eq!(Down::of_frame(frame), Ok(down));
    }

    #[test]
    fn what_goes_up_comes_out_as_it_was_and_fits(up in up()) {
        let frame = up.clone().into_frame();
        prop_assert!(within(Up::limits, &frame));
        prop_assert_eq!(Up::of_frame(frame), Ok(up));
    }

    #[test]
    fn any_bytes_of_a_child_are_a_message_or_an_error(
        kind in 99..108_u8,
        number in any::<u64>(),
        tag in 0..9_u8,
        body in proptest::collection::vec(0..9_u8, 0..120),
    ) {
        let body = [&[tag][..], &body].concat();
        if let Ok(up) = Up::of_frame(Frame { kind, number, body }) {
            let again = up.clone().into_frame();
            prop_assert_eq!(Up::of_frame(again), Ok(up));
        }
    }

    #[test]
    fn a_child_s_message_cut_short_is_none(up in up(), cut in 1..64_usize) {
        let mut frame = up.into_frame();
        let fixed = match frame.kind {
            ALIVE => 0,
            RETURNED => 32,
            FAILED => frame.body.len(),
            // The rest may have any length, and a reachable node has none.
            ASKED | REACHABLE => return Ok(()),
            _ => unreachable!("no such message"),
        };
        let left = fixed.saturating_sub(cut);
        prop_assume!(left < fixed);
        frame.body.truncate(left);
        prop_assert!(Up::of_frame(frame).is_err());
    }
}

#[test]
fn the_largest_messages_fit_their_limits_and_no_larger_ones() {
    let (name, bytes) = ("n".repeat(MAX_NAME), vec![0; MAX_MESSAGE]);
    let key = VerifyingKey([9; 32]);
    let node = |number: u8| Node {
        name: name.clone(),
        address: Ipv4Addr::LOCALHOST,
        key: VerifyingKey([number; 32]),
    };
    let nodes: Vec<Node> = (0..64).map(node).collect();
    let call = Down::Call {
        number: 1,
        within: Duration::MAX,
        target: Target::Node(name.clone()),
        bytes: bytes.clone(),
    };
    let start = Down::Start(Box::new(Start { me: name.clone(), seed: Seed([1; 32]), nodes: nodes.clone() }));
    for down in [start, Down::Nodes(nodes), call, Down::Answer { number: 1, bytes: Some(bytes.clone()) }] {
        assert!(within(Down::limits, &down.into_frame()));
    }
    let stranger = Asker::Stranger { key, address: IpAddr::from([255; 16]), binding: [1; 32] };
    for up in [
        Up::Returned { number: 1, result: Ok(([1; 32], bytes.clone())) },
        Up::Returned { number: 1, result: Err(Why::OtherKey(key)) },
        Up::Asked { number: 1, from: Asker::Node(name.clone()), bytes: bytes.clone() },
        Up::Asked { number: 1, from: stranger, bytes },
        Up::Reachable { node: name, why: Some(Why::OtherKey(key)) },
    ] {
        assert!(within(Up::limits, &up.into_frame()));
    }
}

#[test]
fn only_lists_that_can_be_told_are_taken() {
    let node = |name: &str, key: u8| Node {
        name: name.to_owned(),
        address: Ipv4Addr::LOCALHOST,
        key: VerifyingKey([key; 32]),
    };
    let twice = |name: &str| Err(ChannelError::Twice { name: name.to_owned() });
    let many: Vec<Node> = (0..65).map(|key| node(&format!("n{key}"), key)).collect();
    for (nodes, wanted) in [
        (vec![node("a", 1), node("b", 2)], Ok(())),
        (vec![node("a", 1), node("a", 2)], twice("a")),
        (vec![node("a", 1), node("b", 1)], twice("b")),
        (vec![node("", 1)], Err(ChannelError::Name { length: 0 })),
        (vec![node(&"n".repeat(256), 1)], Err(ChannelError::Name { length: 256 })),
        (many[..64].to_vec(), Ok(())),
        (many, Err(ChannelError::Nodes { count: 65 })),
    ] {
        assert_eq!(Down::check_start("me", &nodes), wanted);
    }
    assert!(Down::check_start("", &[]).is_err());
}
