//! Push (XEP-0357).

use crate::simulation::actions::Action;
use crate::simulation::world::World;

/// See [`Action`].
pub(super) const ACTIONS: &[Action<World>] = &[Action { weight: 8, run: World::turn_push }];
