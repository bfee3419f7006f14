//! Subsetting: a client of a large fleet uses only some of its endpoints, so that connections,
//! health checks and latency estimates are not spread so thin that they mean nothing. Off by
//! default.
//!
//! Follows gRPC A68 (random subsetting): the endpoints are ranked by a hash of the client and of
//! their address (rendezvous), and the first k are used. When an endpoint comes or goes, at most
//! one member changes, so connections stay. Over many clients every endpoint is chosen equally
//! often on average; the number of clients per endpoint is binomially distributed. Schemes that
//! even this out exactly (Finagle's aperture, Google's deterministic subsetting) need clients
//! numbered without gaps, which a library cannot know.
//!
//! The client is named by a number that should outlive a restart but differ between instances,
//! for example [`super::hash::of`] an instance id.

use super::hash;

/// Which of the endpoints with these address hashes `client` uses: at most `size`, as ascending
/// indices into `hashes`; `size` 0 means all. O(n); for the moment when endpoints change.
///
/// Endpoints with the same hash are told apart by index.
#[must_use]
pub fn members(client: u64, hashes: &[u64], size: u32) -> Vec<u32> {
    let count = u32::try_from(hashes.len()).unwrap_or(u32::MAX);
    if size == 0 || size >= count {
        return (0..count).collect();
    }
    let mut ranked: Vec<(u64, u32)> =
        (0..count).zip(hashes).map(|(i, hash)| (hash::score(client, *hash), i)).collect();
    let (first, _, _) = ranked.select_nth_unstable(size as usize);
    let mut chosen: Vec<u32> = first.iter().map(|(_, index)| *index).collect();
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn fleet(count: u32) -> Vec<u64> {
        (0..count)
            .map(|n| hash::of(format!("http://10.0.{}.{}:80", n / 250, n % 250).as_bytes()))
            .collect()
    }

    #[test]
    fn clients_are_spread_evenly() {
        let fleet = fleet(100);
        let mut clients = vec![0_u32; 100];
        for client in 0..1_000 {
            for member in members(client, &fleet, 10) {
                clients[member as usize] += 1;
            }
        }
        assert_eq!(clients.iter().sum::<u32>(), 10_000);
        // Binomial: 100 expected, deviation 9.5; the extremes of 100 draws are within 4 of them.
        assert!(clients.iter().all(|n| n.abs_diff(100) < 38), "{clients:?}");
        let squares: u32 = clients.iter().map(|n| n.abs_diff(100).pow(2)).sum();
        assert!((5_000..14_000).contains(&squares), "variance 90 each: {squares}");
    }

    #[test]
    fn bad_input_is_survived() {
        assert_eq!(members(0, &[], 0), Vec::<u32>::new());
        assert_eq!(members(u64::MAX, &[], u32::MAX), Vec::<u32>::new());
        assert_eq!(members(1, &[7, 7, 7], 0), [0, 1, 2]);
        assert_eq!(members(1, &[7, 7, 7], 2), [0, 1]);
        assert_eq!(members(1, &[7, 7, 7], u32::MAX), [0, 1, 2]);
    }

    proptest! {
        #[test]
        fn one_endpoint_more_or_less_changes_at_most_one_member(
            client: u64, count in 2_u32..80, size in 1_u32..80, gone in 0_u32..80,
        ) {
            let all = fleet(count);
            let gone = (gone % count) as usize;
            let name = |hashes: &[u64]| -> BTreeSet<u64> {
                members(client, hashes, size).iter().map(|i| hashes[*i as usize]).collect()
            };
            let before = name(&all);
            let mut rest = all.clone();
            let lost = rest.remove(gone);
            let after = name(&rest);
            prop_assert_eq!(before.len(), size.min(count) as usize);
            prop_assert_eq!(after.len(), size.min(count - 1) as usize);
            prop_assert!(before.difference(&after).all(|hash| *hash == lost));
            prop_assert!(after.difference(&before).count() <= 1);
        }

        #[test]
        fn the_order_of_the_list_does_not_matter(client: u64, turn in 0_usize..50) {
            let all = fleet(50);
            let mut turned = all.clone();
            turned.rotate_left(turn);
            let name = |hashes: &[u64]| -> BTreeSet<u64> {
                members(client, hashes, 7).iter().map(|i| hashes[*i as usize]).collect()
            };
            prop_assert_eq!(name(&all), name(&turned));
        }
    }
}
