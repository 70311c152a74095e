//! Companions: adoption, path, retirement, and the experience that a season brings them.

use daybook_schema::events::{
    Companion, Personality, SimulinAdopted, SimulinLevelReached, SimulinPathChosen, SimulinRetired,
    SimulinXpGained,
};
use daybook_schema::{
    AdoptionNumber, BondLevel, BondXp, SimulinId, SimulinPath, SimulinStage, Species, TraitLevel,
    UserId, digest, limits,
};

use super::{Decision, NewEvent, time_of};
use crate::bond;
use crate::draws::Generator;
use crate::rejection::{Rejection, Rejections};
use crate::state::{Simulin, User};

/// The first level at which a path may be chosen.
const PATH_LEVEL: BondLevel = BondLevel::clamped(8);

impl Decision<'_> {
    pub(super) fn adopt(
        &self,
        user_id: UserId,
        species: Species,
    ) -> Result<Vec<NewEvent>, Rejections> {
        let user = self.user(user_id)?;
        if user.simulins.len() >= limits::SIMULINS_PER_USER_MAX {
            return Err(Rejection::SimulinLimit { max: limits::SIMULINS_PER_USER_MAX }.into());
        }
        let adoption_number = user.next_adoption_number();
        let adopted = SimulinAdopted {
            simulin_id: self.state.identity().simulin_id(
                self.context.now,
                user_id,
                adoption_number,
            ),
            adoption_number,
            species,
            personality: self.draw_personality(user_id, adoption_number),
        };
        Ok(vec![NewEvent::new(user_id, adopted)])
    }

    fn draw_personality(&self, user_id: UserId, number: AdoptionNumber) -> Personality {
        let seed = digest::PERSONALITY_STREAM.derive(&[
            self.state.genesis_hash.as_bytes(),
            user_id.as_bytes(),
            &number.get().to_le_bytes(),
        ]);
        let mut generator = Generator::from_seed(seed);
        let mut draw = || TraitLevel::clamped(u8::try_from(generator.below(101)).unwrap_or(0));
        Personality { curiosity: draw(), courage: draw(), warmth: draw() }
    }

    pub(super) fn choose_path(
        &self,
        user_id: UserId,
        simulin_id: SimulinId,
        path: SimulinPath,
    ) -> Result<Vec<NewEvent>, Rejections> {
        let simulin = self.simulin(user_id, simulin_id)?;
        let mut rejections = Vec::new();
        if let Some(path) = simulin.path {
            rejections.push(Rejection::PathAlreadyChosen { path });
        }
        if simulin.bond_level.stage() == SimulinStage::Sproutling {
            let bond_level = simulin.bond_level;
            rejections.push(Rejection::SimulinTooYoung { bond_level, needed: PATH_LEVEL });
        }
        Rejections::refuse(rejections)?;
        Ok(vec![NewEvent::new(user_id, SimulinPathChosen { simulin_id, path })])
    }

    pub(super) fn retire(
        &self,
        user_id: UserId,
        simulin_id: SimulinId,
    ) -> Result<Vec<NewEvent>, Rejections> {
        self.simulin(user_id, simulin_id)?;
        Ok(vec![NewEvent::new(user_id, SimulinRetired { simulin_id })])
    }

    /// A simulin of the user that is not retired.
    pub(super) fn simulin(
        &self,
        user_id: UserId,
        simulin_id: SimulinId,
    ) -> Result<&Simulin, Rejection> {
        let user = self.user(user_id)?;
        user.simulin(simulin_id).ok_or_else(|| {
            if self.was_simulin(user_id, user, simulin_id) {
                Rejection::SimulinRetired { simulin_id }
            } else {
                Rejection::SimulinNotFound { simulin_id }
            }
        })
    }

    /// Whether the id is that of one of the user's newest simulins, retired: ids derive, so none is
    /// remembered.
    fn was_simulin(&self, user_id: UserId, user: &User, simulin_id: SimulinId) -> bool {
        let at = time_of(simulin_id.as_bytes());
        self.is_derived(user.adoption_count, |identity, number| {
            identity.simulin_id(at, user_id, AdoptionNumber::clamped(number)) == simulin_id
        })
    }
}

/// A companion's experience during one command: several gains may follow one another.
pub(super) struct CompanionBond {
    user_id: UserId,
    companion: Companion,
    bond_xp: BondXp,
    bond_level: BondLevel,
}

impl CompanionBond {
    /// The bond of a season's companion; none if there is none or it was retired meanwhile.
    pub(super) fn of(
        decision: &Decision<'_>,
        user_id: UserId,
        companion: Option<Companion>,
    ) -> Option<Self> {
        let companion = companion?;
        let simulin = decision.state.users.get(&user_id)?.simulin(companion.simulin_id)?;
        let (bond_xp, bond_level) = (simulin.bond_xp, simulin.bond_level);
        Some(Self { user_id, companion, bond_xp, bond_level })
    }

    /// Gains experience, more on the lucky path: an event with the sum, and one with the level
    /// reached if it is a new one.
    pub(super) fn gain(&mut self, xp: u32, events: &mut Vec<NewEvent>) {
        let gained = BondXp::clamped(bond::with_path(xp, self.companion.path));
        let simulin_id = self.companion.simulin_id;
        self.bond_xp = BondXp::clamped(self.bond_xp.get().saturating_add(gained.get()));
        if gained > BondXp::MIN {
            let bond_xp = self.bond_xp;
            let event = SimulinXpGained { simulin_id, gained, bond_xp };
            events.push(NewEvent::new(self.user_id, event));
        }
        let bond_level = bond::level_for(self.bond_xp);
        if bond_level > self.bond_level {
            self.bond_level = bond_level;
            let event = SimulinLevelReached { simulin_id, bond_level };
            events.push(NewEvent::new(self.user_id, event));
        }
    }
}
