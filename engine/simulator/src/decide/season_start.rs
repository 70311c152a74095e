//! The start of a season.

use daybook_schema::events::{Companion, DayOpened, SeasonStarted};
use daybook_schema::{
    ClientDigest, ClientSeed, ClientSeedSource, Commitment, DayNumber, SimulinId, UnixMicros,
    UserId, Weather, commands, limits,
};

use super::{Decision, NewEvent};
use crate::draws::draw_weather;
use crate::rejection::{Rejection, Rejections};
use crate::rulesets::Rules;
use crate::season_keys::{SeasonKeyRequest, day_seed};
use crate::state::{PublishedCommitment, User};

/// The player's part of the randomness.
struct ClientPart {
    source: ClientSeedSource,
    digest: ClientDigest,
}

impl Decision<'_> {
    pub(super) fn start_season(
        &self,
        user_id: UserId,
        given: Commitment,
        client_seed: ClientSeed,
        simulin_id: Option<SimulinId>,
    ) -> Result<Vec<NewEvent>, Rejections> {
        let user = self.user(user_id)?;
        let mut rejections = Vec::new();
        let mut collect = |rejection| rejections.push(rejection);
        self.check_start(user).for_each(&mut collect);
        // While a season is in play there is no commitment to the next: that is told already.
        let published = match user.season_in_play {
            Some(_) => None,
            None => self.commitment_named(user, given).map_err(&mut collect).ok(),
        };
        let client = self.client_part(client_seed).map_err(&mut collect).ok();
        let companion =
            simulin_id.map(|id| self.simulin(user_id, id)).transpose().map_err(&mut collect).ok();
        let rules = self.starting_rules().map_err(&mut collect).ok();
        Rejections::refuse(rejections)?;
        let (Some(published), Some(client), Some(companion), Some(rules)) =
            (published, client, companion, rules)
        else {
            return Err(Rejection::ClientSeedRequired.into());
        };

        let companion = companion.map(|simulin| Companion {
            simulin_id: simulin.simulin_id,
            species: simulin.species,
            path: simulin.path,
        });
        self.open_season(user_id, rules, published, client, companion)
    }

    fn check_start(&self, user: &User) -> impl Iterator<Item = Rejection> {
        let in_progress =
            user.season_in_play.map(|season_id| Rejection::SeasonInProgress { season_id });
        let day = self.context.now.utc_day();
        let (started_on, count) = user.started_on_day;
        let max = limits::SEASONS_STARTED_PER_DAY_MAX;
        let next_day_at = UnixMicros::from_seconds((day + 1) * 86_400);
        let limit = (started_on == day && count >= max)
            .then_some(Rejection::SeasonLimit { max, next_day_at });
        [in_progress, limit].into_iter().flatten()
    }

    /// The user's commitment, if it is good and the one that the player saw.
    fn commitment_named(
        &self,
        user: &User,
        given: Commitment,
    ) -> Result<PublishedCommitment, Rejection> {
        match user.next_commitment {
            Some(published) if !self.state.is_good(published.key_id, published.epoch_number) => {
                Err(Rejection::CommitmentOutdated)
            }
            Some(published) if published.commitment == given => Ok(published),
            Some(PublishedCommitment { commitment: current, .. }) => {
                Err(Rejection::CommitmentChanged { given, current })
            }
            None => Err(Rejection::CommitmentOutdated),
        }
    }

    fn client_part(&self, client_seed: ClientSeed) -> Result<ClientPart, Rejection> {
        match client_seed {
            ClientSeed::Digest(digest) => {
                Ok(ClientPart { source: ClientSeedSource::ClientSeed, digest })
            }
            ClientSeed::CommandId => {
                let source = ClientSeedSource::IdempotencyKey;
                let id = self.context.client_command_id.ok_or(Rejection::ClientSeedRequired)?;
                Ok(ClientPart { source, digest: commands::client_digest(source, id.as_bytes()) })
            }
        }
    }

    fn open_season(
        &self,
        user_id: UserId,
        rules: &Rules,
        published: PublishedCommitment,
        client: ClientPart,
        companion: Option<Companion>,
    ) -> Result<Vec<NewEvent>, Rejections> {
        let ClientPart { source: client_seed_source, digest: client_digest } = client;
        let identity = self.state.identity();
        let season_number = published.season_number;
        let request =
            SeasonKeyRequest { key_id: published.key_id, identity, user_id, season_number };
        let day_key_zero =
            self.context.keys.day_key(&request, 0).ok_or(Rejection::KeyUnavailable)?;
        let seed = day_seed(&day_key_zero, &client_digest, 0);
        let season_id = identity.season_id(self.context.now, user_id, season_number);
        let started = SeasonStarted {
            user_id,
            season_number,
            ruleset: rules.ruleset,
            key_id: published.key_id,
            commitment: published.commitment,
            commitment_seq: published.seq,
            commitment_hash: published.hash,
            client_seed_source,
            client_digest,
            day_key_zero,
            companion,
            coins: rules.starting_coins,
        };
        let opened = DayOpened {
            day_number: DayNumber::MIN,
            weather: draw_weather(rules, Weather::Cloudy, &seed),
        };
        Ok(vec![NewEvent::new(season_id, started), NewEvent::new(season_id, opened)])
    }
}
