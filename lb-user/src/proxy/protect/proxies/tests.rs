use proptest::prelude::*;

use super::*;

fn proxies(source: Source) -> TrustedProxies {
    let networks = ["192.168.50.20", "10.9.0.0/24", "2001:db8:9::/64"];
    let networks = networks.map(|network| network.parse().unwrap()).to_vec();
    TrustedProxies::new(&[TrustedProxy { networks, source, one_client_per_connection: true }]).unwrap()
}

const PROXY: &str = "192.168.50.20";

fn client(source: Source, fields: &[(&str, &str)]) -> Result<String, Unreadable> {
    let proxies = proxies(source);
    let peer = PROXY.parse().unwrap();
    let via = proxies.at(peer).unwrap();
    proxies.client(via, peer, &Head::of_request("/", fields)).map(|client| client.to_string())
}

#[test]
fn the_last_address_that_is_no_proxys_is_the_client() {
    for (fields, wanted) in [
        (&["203.0.113.5"][..], Ok("203.0.113.5")),
        (&["203.0.113.5:4711"], Ok("203.0.113.5")),
        (&["1.1.1.1, 203.0.113.5"], Ok("203.0.113.5")),
        (&["1.1.1.1, 203.0.113.5, 10.9.0.7"], Ok("203.0.113.5")),
        (&["1.1.1.1", "203.0.113.5 , 10.9.0.7", "10.9.0.8"], Ok("203.0.113.5")),
        (&["garbage, 203.0.113.5"], Ok("203.0.113.5")),
        (&["\"", "203.0.113.5"], Ok("203.0.113.5")),
        (&["2001:db8::5"], Ok("2001:db8::5")),
        (&["[2001:db8::5]:443"], Ok("2001:db8::5")),
        (&["[2001:db8::5]"], Ok("2001:db8::5")),
        (&["::ffff:203.0.113.5"], Ok("203.0.113.5")),
        (&["203.0.113.5, 2001:db8:9::1"], Ok("203.0.113.5")),
        (&["10.9.0.7"], Ok("10.9.0.7")),
        (&["203.0.113.5, unknown, 10.9.0.7"], Ok("10.9.0.7")),
        (&[], Ok(PROXY)),
        (&[""], Err(Unreadable)),
        (&["203.0.113.5,"], Err(Unreadable)),
        (&["203.0.113.5, nonsense"], Err(Unreadable)),
        (&["203.0.113.5:port"], Err(Unreadable)),
        (&["203.0.113.5:70000"], Err(Unreadable)),
        (&["[203.0.113.5]"], Err(Unreadable)),
        (&["[2001:db8::5]443"], Err(Unreadable)),
    ] {
        let fields: Vec<_> = fields.iter().map(|value| ("X-Forwarded-For", *value)).collect();
        assert_eq!(client(Source::XForwardedFor, &fields), wanted.map(str::to_owned), "{fields:?}");
    }
}

#[test]
fn forwarded_is_read_by_its_grammar() {
    for (value, wanted) in [
        ("for=203.0.113.5", Ok("203.0.113.5")),
        ("For=\"[2001:db8::5]:4711\";proto=https;by=10.9.0.1", Ok("2001:db8::5")),
        ("for=1.1.1.1, for=203.0.113.5;host=\"a,b;for=6.6.6.6\", for=10.9.0.7", Ok("203.0.113.5")),
        ("for=203.0.113.5, for=_gateway, for=10.9.0.7", Ok("10.9.0.7")),
        ("proto=https", Ok(PROXY)),
        ("for=\"203.0.113.5", Err(Unreadable)),
        ("for=\"x, for=203.0.113.5", Err(Unreadable)),
        ("for=203.0.113.5;for=6.6.6.6", Err(Unreadable)),
        ("for=\"203.0.113.5\\\"\"", Err(Unreadable)),
        ("203.0.113.5", Err(Unreadable)),
        ("for=", Err(Unreadable)),
    ] {
        let fields = [("X-Forwarded-For", "6.6.6.6"), ("Forwarded", value)];
        assert_eq!(client(Source::Forwarded, &fields), wanted.map(str::to_owned), "{value}");
    }
}

#[test]
fn nobody_else_is_believed() {
    let proxies = proxies(Source::XForwardedFor);
    assert_eq!(proxies.at("192.168.50.21".parse().unwrap()), None);
    let head = Head::of_request("/", &[("X-Forwarded-For", "6.6.6.6"), ("Forwarded", "for=6.6.6.6")]);
    let peer = "203.0.113.5".parse().unwrap();
    for via in [Via::default(), Via { source: Some(Source::ProxyProtocol), shared: false }] {
        assert_eq!(proxies.client(via, peer, &head), Ok(peer));
    }
}

#[test]
fn a_proxy_behind_a_proxy_is_asked_for_its_client_and_shares_what_either_shares() {
    let proxy = |network: &str, source, one_client_per_connection| TrustedProxy {
        networks: vec![network.parse().unwrap()],
        source,
        one_client_per_connection,
    };
    let balancer = proxy("10.9.0.1", Source::ProxyProtocol, true);
    let proxies = TrustedProxies::new(&[balancer, proxy("10.9.0.2", Source::XForwardedFor, false)]).unwrap();
    let via = |from: &str, named: Option<&str>| {
        proxies.via(from.parse().unwrap(), named.map(|named| named.parse().unwrap()))
    };
    for (from, named, source, shared) in [
        ("203.0.113.5", None, None, false),
        ("10.9.0.1", None, Some(Source::ProxyProtocol), false),
        ("10.9.0.1", Some("203.0.113.5"), None, false),
        ("10.9.0.1", Some("10.9.0.2"), Some(Source::XForwardedFor), true),
        ("10.9.0.2", None, Some(Source::XForwardedFor), true),
    ] {
        assert_eq!(via(from, named), Via { source, shared }, "{from} {named:?}");
    }
}

proptest! {
    #[test]
    fn what_a_client_writes_before_its_proxy_changes_nothing(before in "[ -~]{0,60}", fields in 0..3_usize) {
        let own = [("X-Forwarded-For", before.as_str()); 2];
        let list = format!("{before}, 203.0.113.5");
        let list = if fields == 2 { "203.0.113.5" } else { &list };
        let all: Vec<_> = own[..fields].iter().copied().chain([("X-Forwarded-For", list)]).collect();
        prop_assert_eq!(client(Source::XForwardedFor, &all), Ok("203.0.113.5".to_owned()));
    }

    #[test]
    fn any_word_of_a_proxys_is_a_client_or_refused(value in "[ -~]{0,80}") {
        for source in [Source::XForwardedFor, Source::Forwarded] {
            let _either = client(source, &[("X-Forwarded-For", &value), ("Forwarded", &value)]);
        }
    }
}
