//! What may happen in a world, as tables of weights and functions.

use crate::runtime::driver::sim::Random;

/// Something that a client of a world does.
pub(super) struct Action<W> {
    /// How often, beside all others of the world.
    pub(super) weight: usize,
    /// Does it; the number is the client's.
    pub(super) run: fn(&mut W, usize),
}

/// Draws an action from tables, by the weights.
pub(super) fn draw<W>(tables: &[&'static [Action<W>]], random: &mut Random) -> &'static Action<W> {
    let all = || tables.iter().flat_map(|table| table.iter());
    let mut draw = random.below(all().map(|action| action.weight).sum());
    let action = all().find(|action| match draw.checked_sub(action.weight) {
        None => true,
        Some(left) => {
            draw = left;
            false
        }
    });
    action.expect("less than the sum of the weights was drawn")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_of_all_tables_come_as_often_as_their_weights_say() {
        const ONE: &[Action<[u32; 3]>] = &[
            Action { weight: 60, run: |counts, _| counts[0] += 1 },
            Action { weight: 0, run: |counts, _| counts[1] += 1 },
        ];
        const OTHER: &[Action<[u32; 3]>] = &[Action { weight: 30, run: |counts, by| counts[2] += by as u32 }];
        let (mut counts, mut random) = ([0; 3], Random::new(1));
        for _ in 0..9000 {
            (draw(&[ONE, OTHER], &mut random).run)(&mut counts, 1);
        }
        assert_eq!(counts.iter().sum::<u32>(), 9000);
        assert!((5700..6300).contains(&counts[0]) && counts[1] == 0, "{counts:?}");
    }
}
