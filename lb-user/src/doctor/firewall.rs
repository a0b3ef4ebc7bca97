//! Whether this host's packet filter lets in what has to come in, by what `nft -j list ruleset` prints. Rules are followed as the
//! kernel does, as far as they are understood; where one that is not might decide, nothing is claimed.

use std::net::Ipv4Addr;

use serde_json::Value;

/// How deep chains may call each other (NFT_JUMP_STACK_SIZE).
const DEPTH: usize = 16;

/// How many rules are looked at for one packet; a filter that needs more is not understood.
const BUDGET: usize = 50_000;

/// A packet that begins something, as it comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// What it is, for an operator: `heartbeats of arr2`.
    pub what: String,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// Its destination port.
    pub port: u16,
    /// Its source, where it is known.
    pub from: Option<Ipv4Addr>,
    /// Its destination.
    pub to: Ipv4Addr,
    /// The interface that it comes in on.
    pub interface: String,
}

/// A packet that does not, or may not, come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The packet.
    pub packet: Incoming,
    /// What becomes of it.
    pub fate: Fate,
}

/// What a packet filter does to a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It comes in.
    Passes,
    /// A rule or a chain's policy drops or rejects it.
    Dropped(Place),
    /// A rule that is not understood here may decide.
    Unsure,
}

/// Where a packet is dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `inet`, `ip` ..
    pub family: String,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// Whether it is the chain's policy, not a rule.
    pub policy: bool,
}

/// A packet filter.
#[derive(Debug)]
pub(super) struct Ruleset<'a> {
    entries: Vec<&'a Value>,
}

impl<'a> Ruleset<'a> {
    /// That of a document of `nft -j`; `None`: it is something else.
    pub(super) fn of(document: &'a Value) -> Option<Self> {
        Some(Self { entries: document.get("nftables")?.as_array()?.iter().collect() })
    }

    /// What becomes of `packet`.
    pub(super) fn fate(&self, packet: &Incoming) -> Fate {
        let mut walk = Walk { ruleset: self, packet, left: BUDGET };
        let mut fate = Fate::Passes;
        let elsewhere = |chain: &&Value| {
            chain.get("dev").and_then(Value::as_str).is_some_and(|device| device != packet.interface)
        };
        for chain in self.base_chains().filter(|chain| !elsewhere(chain)) {
            match walk.base(chain) {
                Fate::Passes => {}
                Fate::Dropped(place) => return Fate::Dropped(place),
                Fate::Unsure => fate = Fate::Unsure,
            }
        }
        fate
    }

    /// Chains that see what comes in for this host before it is delivered.
    fn base_chains(&self) -> impl Iterator<Item = &'a Value> {
        let chains = self.entries.iter().filter_map(|entry| entry.get("chain"));
        chains.filter(|chain| {
            let of = |key: &str| chain.get(key).and_then(Value::as_str).unwrap_or_default();
            matches!(of("hook"), "input" | "prerouting" | "ingress")
                && of("type") == "filter"
                && matches!(of("family"), "inet" | "ip" | "netdev")
        })
    }

    fn rules(&self, chain: Chain<'a>) -> impl Iterator<Item = &'a Vec<Value>> {
        let rules = self.entries.iter().filter_map(|entry| entry.get("rule"));
        let here = rules.filter(move |rule| {
            let of = |key: &str| rule.get(key).and_then(Value::as_str).unwrap_or_default();
            (of("family"), of("table"), of("chain")) == (chain.family, chain.table, chain.name)
        });
        here.filter_map(|rule| rule.get("expr")?.as_array())
    }

    /// The elements of a named set.
    fn set(&self, chain: Chain<'_>, name: &str) -> Option<&'a Value> {
        let sets = self.entries.iter().filter_map(|entry| entry.get("set"));
        let mut here = sets.filter(|set| {
            let of = |key: &str| set.get(key).and_then(Value::as_str).unwrap_or_default();
            (of("family"), of("table"), of("name")) == (chain.family, chain.table, name)
        });
        here.next()?.get("elem")
    }
}

#[derive(Clone, Copy, Debug)]
struct Chain<'a> {
    family: &'a str,
    table: &'a str,
    name: &'a str,
}

impl Chain<'_> {
    fn place(self, policy: bool) -> Place {
        let Self { family, table, name } = self;
        Place { family: family.into(), table: table.into(), chain: name.into(), policy }
    }
}

/// What a chain decides.
#[derive(Debug)]
enum Decision {
    Accept,
    Drop(Place),
    /// Nothing: whoever called it goes on.
    Nothing,
}

/// What is known of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Yes,
    No,
    Unknown,
}

/// A packet on its way through the chains.
struct Walk<'a, 'p> {
    ruleset: &'p Ruleset<'a>,
    packet: &'p Incoming,
    left: usize,
}

impl<'a> Walk<'a, '_> {
    fn base(&mut self, value: &'a Value) -> Fate {
        let of = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
        let chain = Chain { family: of("family"), table: of("table"), name: of("name") };
        match self.chain(chain, 0) {
            None => Fate::Unsure,
            Some(Decision::Accept) => Fate::Passes,
            Some(Decision::Drop(place)) => Fate::Dropped(place),
            Some(Decision::Nothing) if of("policy") == "drop" => Fate::Dropped(chain.place(true)),
            Some(Decision::Nothing) => Fate::Passes,
        }
    }

    /// `None`: a rule that is not understood may have decided.
    fn chain(&mut self, chain: Chain<'a>, depth: usize) -> Option<Decision> {
        if depth >= DEPTH {
            return None;
        }
        for rule in self.ruleset.rules(chain) {
            self.left = self.left.checked_sub(1)?;
            match self.rule(chain, rule, depth)? {
                Decision::Nothing => {}
                Decision::Accept => return Some(Decision::Accept),
                Decision::Drop(place) => return Some(Decision::Drop(place)),
            }
            if returns(rule) && self.matches(chain, rule) == Holds::Yes {
                return Some(Decision::Nothing);
            }
        }
        Some(Decision::Nothing)
    }

    fn rule(&mut self, chain: Chain<'a>, rule: &'a [Value], depth: usize) -> Option<Decision> {
        let verdict =
            rule.iter().find_map(|statement| statement.as_object()?.keys().find(|key| is_verdict(key)));
        let Some(verdict) = verdict else { return Some(Decision::Nothing) };
        match self.matches(chain, rule) {
            Holds::No => return Some(Decision::Nothing),
            Holds::Unknown => return None,
            Holds::Yes => {}
        }
        match verdict.as_str() {
            "accept" => Some(Decision::Accept),
            "drop" | "reject" => Some(Decision::Drop(chain.place(false))),
            "return" => Some(Decision::Nothing),
            "jump" | "goto" => {
                let targets =
                    rule.iter().find_map(|statement| statement.get(verdict)?.get("target")?.as_str());
                let decision = self.chain(Chain { name: targets?, ..chain }, depth + 1)?;
                // After a goto nothing of this chain follows; what then holds is its caller's business, or the policy's.
                let undecided = matches!(decision, Decision::Nothing) && verdict == "goto";
                if undecided { None } else { Some(decision) }
            }
            // A map of verdicts, a queue.
            _ => None,
        }
    }

    fn matches(&self, chain: Chain<'a>, rule: &'a [Value]) -> Holds {
        let mut all = Holds::Yes;
        for statement in rule {
            match self.condition(chain, statement) {
                Holds::No => return Holds::No,
                Holds::Unknown => all = Holds::Unknown,
                Holds::Yes => {}
            }
        }
        all
    }

    fn condition(&self, chain: Chain<'a>, statement: &'a Value) -> Holds {
        let Some(matching) = statement.get("match") else {
            let neutral = statement.as_object().is_some_and(|object| {
                object.keys().all(|key| is_verdict(key) || NEUTRAL.contains(&key.as_str()))
            });
            return if neutral { Holds::Yes } else { Holds::Unknown };
        };
        let (Some(left), Some(right)) = (matching.get("left"), matching.get("right")) else {
            return Holds::Unknown;
        };
        let holds = match self.left(left) {
            Left::Value(value) => self.contains(chain, right, &value),
            Left::Absent => Holds::No,
            Left::Unknown => Holds::Unknown,
        };
        match (matching.get("op").and_then(Value::as_str), holds) {
            (Some("==" | "in"), holds) => holds,
            (Some("!="), Holds::Yes) => Holds::No,
            (Some("!="), Holds::No) => Holds::Yes,
            (_, _) => Holds::Unknown,
        }
    }

    /// What the packet has of what a rule looks at.
    fn left(&self, left: &Value) -> Left {
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        if let Some(payload) = left.get("payload") {
            let (protocol, field) = (text(payload, "protocol"), text(payload, "field"));
            return match (protocol.as_deref(), field.as_deref()) {
                (Some("th"), Some("dport")) => Left::Value(self.packet.port.into()),
                (Some(protocol), Some("dport")) if protocol == self.packet.protocol => {
                    Left::Value(self.packet.port.into())
                }
                // A rule about another protocol's ports is not about this packet.
                (Some("tcp" | "udp" | "sctp" | "dccp" | "icmp" | "icmpv6" | "ip6"), _)
                    if protocol.as_deref() != Some(self.packet.protocol) =>
                {
                    Left::Absent
                }
                (Some("ip"), Some("saddr")) => {
                    self.packet.from.map_or(Left::Unknown, |from| Left::Value(from.to_string().into()))
                }
                (Some("ip"), Some("daddr")) => Left::Value(self.packet.to.to_string().into()),
                (Some("ip"), Some("protocol")) => Left::Value(self.packet.protocol.into()),
                (_, _) => Left::Unknown,
            };
        }
        if let Some(meta) = left.get("meta") {
            return match text(meta, "key").as_deref() {
                Some("l4proto") => Left::Value(self.packet.protocol.into()),
                Some("iifname" | "iif") => Left::Value(self.packet.interface.clone().into()),
                Some("nfproto") => Left::Value("ipv4".into()),
                Some("protocol") => Left::Value("ip".into()),
                _ => Left::Unknown,
            };
        }
        match left.get("ct").and_then(|ct| text(ct, "key")).as_deref() {
            Some("state") => Left::Value("new".into()),
            _ => Left::Unknown,
        }
    }

    /// Whether `right` is `value`, or a set that has it.
    fn contains(&self, chain: Chain<'a>, right: &'a Value, value: &Value) -> Holds {
        if let Some(name) = right.as_str().and_then(|text| text.strip_prefix('@')) {
            let elements = self.ruleset.set(chain, name);
            return elements.map_or(Holds::No, |elements| self.contains(chain, elements, value));
        }
        if let Some(elements) = right.as_array().or_else(|| right.get("set").and_then(Value::as_array)) {
            let each = elements.iter().map(|element| self.contains(chain, element, value));
            return each.fold(Holds::No, |all, one| match (all, one) {
                (Holds::Yes, _) | (_, Holds::Yes) => Holds::Yes,
                (Holds::Unknown, _) | (_, Holds::Unknown) => Holds::Unknown,
                (Holds::No, Holds::No) => Holds::No,
            });
        }
        if let Some([low, high]) = right.get("range").and_then(Value::as_array).map(Vec::as_slice) {
            return in_range(low, high, value);
        }
        if let Some(prefix) = right.get("prefix") {
            return in_network(prefix, value);
        }
        if right.is_object() {
            return Holds::Unknown;
        }
        // An interface by a pattern: eth*.
        if let (Some(pattern), Some(text)) =
            (right.as_str().and_then(|text| text.strip_suffix('*')), value.as_str())
        {
            return yes_if(text.starts_with(pattern));
        }
        // A service's name, as nft prints it on request, is no number.
        if value.is_number() != right.is_number() {
            return Holds::Unknown;
        }
        yes_if(right == value)
    }
}

/// What a packet has.
enum Left {
    Value(Value),
    /// It has no such thing.
    Absent,
    Unknown,
}

/// Statements that decide nothing.
const NEUTRAL: [&str; 4] = ["counter", "log", "comment", "notrack"];

fn is_verdict(key: &str) -> bool {
    matches!(key, "accept" | "drop" | "reject" | "return" | "jump" | "goto" | "vmap" | "queue" | "xt")
}

fn returns(rule: &[Value]) -> bool {
    rule.iter().any(|statement| statement.get("return").is_some())
}

fn yes_if(holds: bool) -> Holds {
    if holds { Holds::Yes } else { Holds::No }
}

fn in_range(low: &Value, high: &Value, value: &Value) -> Holds {
    match (low.as_u64(), high.as_u64(), value.as_u64()) {
        (Some(low), Some(high), Some(value)) => yes_if((low..=high).contains(&value)),
        (_, _, _) => Holds::Unknown,
    }
}

fn in_network(prefix: &Value, value: &Value) -> Holds {
    let address = |value: Option<&Value>| value?.as_str()?.parse::<Ipv4Addr>().ok();
    let length = prefix.get("len").and_then(Value::as_u64).and_then(|length| u8::try_from(length).ok());
    let (Some(network), Some(address), Some(length)) =
        (address(prefix.get("addr")), address(Some(value)), length)
    else {
        return Holds::Unknown;
    };
    ipnet::Ipv4Net::new(network, length).map_or(Holds::Unknown, |network| yes_if(network.contains(&address)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn heartbeat() -> Incoming {
        Incoming {
            what: "heartbeats of arr2".into(),
            protocol: "udp",
            port: 7644,
            from: Some([192, 168, 50, 7].into()),
            to: [192, 168, 50, 6].into(),
            interface: "eth0".into(),
        }
    }

    /// What a chain at the hook `input` of the table `filter`, with this policy and these rules, does to a heartbeat.
    fn fate(policy: &str, rules: &[Value]) -> Fate {
        let chain = |name: &str| json!({ "chain": { "family": "inet", "table": "filter", "name": name } });
        let mut base = chain("input");
        base["chain"]["hook"] = "input".into();
        base["chain"]["type"] = "filter".into();
        base["chain"]["policy"] = policy.into();
        let mut entries = vec![json!({ "metainfo": { "version": "1.0.6" } }), base, chain("nodes")];
        entries.push(json!({ "set": { "family": "inet", "table": "filter", "name": "ports", "elem": [22, { "range": [7000, 8000] }] } }));
        for rule in rules {
            let chain = rule.get("in").cloned().unwrap_or_else(|| "input".into());
            entries.push(json!({ "rule": { "family": "inet", "table": "filter", "chain": chain, "handle": 4, "expr": rule["expr"] } }));
        }
        let document = json!({ "nftables": entries });
        Ruleset::of(&document).unwrap().fate(&heartbeat())
    }

    fn port(op: &str, right: Value) -> Value {
        json!({ "match": { "op": op, "left": { "payload": { "protocol": "udp", "field": "dport" } }, "right": right } })
    }

    fn rule(conditions: &[Value], verdict: Value) -> Value {
        let mut expr = conditions.to_vec();
        expr.push(verdict);
        json!({ "expr": expr })
    }

    fn at(chain: &str, policy: bool) -> Fate {
        Fate::Dropped(Place { family: "inet".into(), table: "filter".into(), chain: chain.into(), policy })
    }

    #[test]
    fn a_rule_that_names_the_port_decides() {
        let (drop, accept) = (json!({ "drop": null }), json!({ "accept": null }));
        for right in
            [json!(7644), json!({ "set": [22, 7644] }), json!({ "range": [7000, 8000] }), json!("@ports")]
        {
            assert_eq!(
                fate("accept", &[rule(&[port("==", right.clone())], drop.clone())]),
                at("input", false),
                "{right}"
            );
            assert_eq!(
                fate("drop", &[rule(&[port("==", right.clone())], accept.clone())]),
                Fate::Passes,
                "{right}"
            );
        }
        assert_eq!(fate("accept", &[rule(&[port("==", json!(7645))], drop.clone())]), Fate::Passes);
        assert_eq!(fate("accept", &[rule(&[port("!=", json!(7645))], drop)]), at("input", false));
    }

    #[test]
    fn what_no_rule_decides_the_policy_does() {
        assert_eq!(fate("drop", &[]), at("input", true));
        assert_eq!(fate("accept", &[]), Fate::Passes);
        let established = json!({ "match": { "op": "in", "left": { "ct": { "key": "state" } }, "right": ["established", "related"] } });
        let accepted = rule(
            &[established, json!({ "counter": { "packets": 1, "bytes": 9 } })],
            json!({ "accept": null }),
        );
        assert_eq!(fate("drop", &[accepted]), at("input", true), "the first packet is new");
        let tcp = json!({ "match": { "op": "==", "left": { "payload": { "protocol": "tcp", "field": "dport" } }, "right": 7644 } });
        assert_eq!(
            fate("drop", &[rule(&[tcp], json!({ "accept": null }))]),
            at("input", true),
            "of another protocol"
        );
    }

    #[test]
    fn networks_and_interfaces_are_compared() {
        let source = |network: &str| json!({ "match": { "op": "==", "left": { "payload": { "protocol": "ip", "field": "saddr" } }, "right": { "prefix": { "addr": network, "len": 24 } } } });
        let accept = || json!({ "accept": null });
        assert_eq!(fate("drop", &[rule(&[source("192.168.50.0")], accept())]), Fate::Passes);
        assert_eq!(fate("drop", &[rule(&[source("192.168.51.0")], accept())]), at("input", true));
        let interface = |name: &str| json!({ "match": { "op": "==", "left": { "meta": { "key": "iifname" } }, "right": name } });
        assert_eq!(fate("drop", &[rule(&[interface("eth0")], accept())]), Fate::Passes);
        assert_eq!(fate("drop", &[rule(&[interface("eth*")], accept())]), Fate::Passes);
        assert_eq!(fate("drop", &[rule(&[interface("lo")], accept())]), at("input", true));
    }

    #[test]
    fn a_chain_that_is_called_decides_or_goes_back() {
        let jump = || rule(&[], json!({ "jump": { "target": "nodes" } }));
        let within = |verdict: Value, number: u16| {
            let mut rule = rule(&[port("==", json!(number))], verdict);
            rule["in"] = "nodes".into();
            rule
        };
        assert_eq!(fate("drop", &[jump(), within(json!({ "accept": null }), 7644)]), Fate::Passes);
        assert_eq!(fate("accept", &[jump(), within(json!({ "reject": null }), 7644)]), at("nodes", false));
        assert_eq!(fate("drop", &[jump(), within(json!({ "accept": null }), 1)]), at("input", true));
        let back = within(json!({ "return": null }), 7644);
        assert_eq!(fate("drop", &[jump(), back, within(json!({ "accept": null }), 7644)]), at("input", true));
    }

    #[test]
    fn a_rule_that_is_not_understood_leaves_it_open() {
        let strange = json!({ "match": { "op": "==", "left": { "meta": { "key": "mark" } }, "right": 7 } });
        assert_eq!(
            fate("drop", &[rule(std::slice::from_ref(&strange), json!({ "accept": null }))]),
            Fate::Unsure
        );
        assert_eq!(
            fate(
                "drop",
                &[rule(
                    &[json!({ "xt": { "type": "match", "name": "conntrack" } })],
                    json!({ "accept": null })
                )]
            ),
            Fate::Unsure
        );
        assert_eq!(
            fate("accept", &[rule(&[strange, port("==", json!(1))], json!({ "drop": null }))]),
            Fate::Passes
        );
        let map = json!({ "expr": [{ "vmap": { "key": { "meta": { "key": "iifname" } }, "data": { "set": [] } } }] });
        assert_eq!(fate("accept", &[map]), Fate::Unsure);
        let calls_itself = {
            let mut rule = rule(&[], json!({ "jump": { "target": "nodes" } }));
            rule["in"] = "nodes".into();
            rule
        };
        assert_eq!(
            fate("accept", &[rule(&[], json!({ "jump": { "target": "nodes" } })), calls_itself]),
            Fate::Unsure
        );
    }

    proptest! {
        #[test]
        fn no_document_makes_the_reader_panic(text in "\\PC{0,200}") {
            let document = serde_json::from_str::<Value>(&text).unwrap_or_else(|_| json!({ "nftables": [{ "rule": text }, { "chain": 1 }] }));
            if let Some(ruleset) = Ruleset::of(&document) {
                ruleset.fate(&heartbeat());
            }
        }
    }
}
