//! A player who is logged in, and what a game client sends.

use daybook_schema::CommandId;
use serde_json::{Value, json};

use crate::client::{Answer, Client};
use crate::house::House;

/// A player with a session.
#[derive(Clone)]
pub struct Player {
    pub client: Client,
    pub user_id: String,
}

/// A new key, as a client makes one for each command.
pub fn key() -> String {
    CommandId::random().to_string()
}

impl Player {
    pub async fn register(house: &House, name: &str) -> Self {
        let mut client = house.client();
        let answer = client.register(&format!("{name}@farm.example")).await.expect(201);
        let user_id = answer.body["user"]["id"].as_str().unwrap().to_owned();
        Self { client, user_id }
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.client.get(path).await
    }

    /// A command without a key.
    pub async fn post(&mut self, path: &str, body: Value) -> Answer {
        self.client.post(path, body).await
    }

    /// A command under a key.
    pub async fn send(&mut self, path: &str, key: &str, body: &Value) -> Answer {
        let request = self.client.request("POST", path).header("idempotency-key", key).json(body);
        self.client.send(request).await
    }

    /// What a start is sent with.
    pub async fn start_body(&mut self) -> Value {
        let next = self.get("/api/fairness/next").await.expect(200);
        json!({ "commitment": next.body["commitment"], "clientSeed": "5a".repeat(32) })
    }

    /// Starts a season; tells its path.
    pub async fn start(&mut self) -> String {
        let body = self.start_body().await;
        let started = self.post("/api/seasons", body).await.expect(201);
        format!("/api/seasons/{}", started.body["season"]["id"].as_str().unwrap())
    }

    pub async fn advance(&mut self, season: &str, day: u8) -> Answer {
        let body = json!({ "expectedDay": day });
        self.post(&format!("{season}/advance"), body).await.expect(200)
    }

    /// A call of one coin on each pot, all at once.
    pub async fn bet_on_all(&mut self, season: &str) -> Answer {
        let bet = |pot: &str| json!({ "potId": pot, "betType": "call", "amount": 1 });
        let bets = ["water", "sun", "pest", "growth"].map(bet);
        self.post(&format!("{season}/bets"), json!({ "bets": bets })).await
    }
}
