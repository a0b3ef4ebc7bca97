//! Which of several candidates the algorithm prefers. Pure: what the servers are doing is handed in.

use super::set::ServerSet;

/// The candidates that cost least: one, or several whose cost is the very same.
pub fn least(candidates: ServerSet, cost: impl Fn(usize) -> f64) -> ServerSet {
    let mut least = f64::INFINITY;
    let mut servers = ServerSet::EMPTY;
    for server in candidates.iter() {
        let cost = cost(server);
        if cost < least {
            (least, servers) = (cost, ServerSet::EMPTY);
        }
        if cost <= least {
            servers.insert(server);
        }
    }
    servers
}

/// Least requests: what the server would have in flight, for its weight. That the new request is counted in makes an idle
/// server of weight 200 go before an idle one of weight 100.
pub fn by_requests(requests: u32, weight: u32) -> f64 {
    (f64::from(requests) + 1.0) / f64::from(weight)
}

/// Least response time: how long the new request would wait if all in flight had to be answered in turn, for the weight;
/// `expected` in nanoseconds. A server of which nothing is known is expected to need a millisecond: it is asked before others, and not
/// for everything at once.
pub fn by_response_time(expected: f64, requests: u32, weight: u32) -> f64 {
    expected.max(QUICKEST) * by_requests(requests, weight)
}

/// Weighted total traffic: the bytes it carried lately, for its weight. Bytes show only when they have moved, so a request
/// in flight counts as some.
pub fn by_traffic(bytes: f64, requests: u32, weight: u32) -> f64 {
    (bytes + f64::from(requests) * REQUEST_BYTES) / f64::from(weight)
}

/// Nanoseconds below which a difference in response times means nothing.
const QUICKEST: f64 = 1e6;

/// What a request is taken to carry until its bytes are counted.
const REQUEST_BYTES: f64 = 16_384.0;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn weights_divide_and_requests_in_flight_multiply() {
        let millis = 1e6;
        for (cheaper, dearer) in [
            (by_requests(0, 200), by_requests(0, 100)),
            (by_requests(2, 400), by_requests(0, 100)),
            (by_requests(9, 100), by_requests(10, 100)),
            (by_response_time(20.0 * millis, 0, 100), by_response_time(30.0 * millis, 0, 100)),
            (by_response_time(30.0 * millis, 0, 100), by_response_time(20.0 * millis, 1, 100)),
            (by_response_time(30.0 * millis, 0, 200), by_response_time(20.0 * millis, 0, 100)),
            (by_response_time(0.0, 18, 100), by_response_time(20.0 * millis, 0, 100)),
            (by_response_time(20.0 * millis, 0, 100), by_response_time(0.0, 20, 100)),
            (by_traffic(1000.0, 0, 100), by_traffic(2000.0, 0, 100)),
            (by_traffic(2000.0, 0, 300), by_traffic(1000.0, 0, 100)),
            (by_traffic(10_000.0, 0, 100), by_traffic(0.0, 1, 100)),
        ] {
            assert!(cheaper < dearer, "{cheaper} {dearer}");
        }
        assert!((by_requests(1, 200) - by_requests(0, 100)).abs() < f64::EPSILON);
    }

    proptest! {
        #[test]
        fn exactly_the_cheapest_candidates_are_chosen(costs in vec(0..5_u32, 1..20), of in any::<u64>()) {
            let candidates: ServerSet = (0..costs.len()).filter(|server| of >> server & 1 == 1).collect();
            let least = least(candidates, |server| f64::from(costs[server]));
            let minimum = candidates.iter().map(|server| costs[server]).min();
            let wanted: ServerSet = candidates.iter().filter(|server| Some(costs[*server]) == minimum).collect();
            prop_assert_eq!(least, wanted);
        }

        #[test]
        fn equal_loads_for_the_weight_cost_the_very_same(requests in 0..10_000_u32, weight in 1..1000_u32, factor in 1..50_u32) {
            let (more, heavier) = ((requests + 1) * factor - 1, weight * factor);
            let equal = by_requests(requests, weight).to_bits() == by_requests(more, heavier).to_bits();
            prop_assert!(equal);
        }
    }
}
