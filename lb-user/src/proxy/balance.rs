//! Which server of a farm takes a connection. Pure: whoever asks keeps the turn.

/// What the health tests say of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Not tested yet: it gets connections only where no healthy server is left, so that a proxy that was just started again
    /// answers before its first tests are through.
    Untested,
    /// The last test succeeded.
    Healthy,
    /// So many tests in a row failed that it gets no connections.
    Unhealthy,
}

/// The server whose turn it is: round robin over the healthy ones, or over the untested ones if none is healthy. Servers in
/// `tried` are left out. `None`: no server is left.
pub fn pick(turn: usize, servers: &[Health], tried: &[usize]) -> Option<usize> {
    pick_among(turn, servers, tried, Health::Healthy)
        .or_else(|| pick_among(turn, servers, tried, Health::Untested))
}

fn pick_among(turn: usize, servers: &[Health], tried: &[usize], wanted: Health) -> Option<usize> {
    let fits = |index: &usize| servers[*index] == wanted && !tried.contains(index);
    let fitting = (0..servers.len()).filter(fits).count();
    (0..servers.len()).filter(fits).nth(turn.checked_rem(fitting)?)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn farm() -> impl Strategy<Value = Vec<Health>> {
        let health = prop_oneof![Just(Health::Untested), Just(Health::Healthy), Just(Health::Unhealthy)];
        vec(health, 0..12)
    }

    proptest! {
        #[test]
        fn an_unhealthy_or_tried_server_is_never_picked(farm in farm(), turn in any::<usize>(), tried in vec(0..12usize, 0..4)) {
            if let Some(server) = pick(turn, &farm, &tried) {
                prop_assert_ne!(farm[server], Health::Unhealthy);
                prop_assert!(!tried.contains(&server));
            }
        }

        #[test]
        fn a_healthy_server_goes_before_an_untested_one(farm in farm(), turn in any::<usize>()) {
            match pick(turn, &farm, &[]) {
                Some(server) => prop_assert!(farm[server] == Health::Healthy || !farm.contains(&Health::Healthy)),
                None => prop_assert!(farm.iter().all(|health| *health == Health::Unhealthy)),
            }
        }

        #[test]
        fn turns_in_a_row_spread_evenly(farm in farm(), start in 0..1000usize) {
            let healthy = farm.iter().filter(|health| **health == Health::Healthy).count();
            prop_assume!(healthy > 0);
            let mut counts = vec![0; farm.len()];
            for turn in start..start + 3 * healthy {
                counts[pick(turn, &farm, &[]).unwrap()] += 1;
            }
            for (index, health) in farm.iter().enumerate() {
                prop_assert_eq!(counts[index], if *health == Health::Healthy { 3 } else { 0 });
            }
        }
    }
}
