//! A client with its own cookies.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
    pub cookies: Vec<String>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    #[track_caller]
    pub fn expect_error(self, status: u16, code: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.body["error"], code, "{answer:?}");
        answer
    }

    /// The fields that are named, with their codes.
    pub fn faults(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let details = self.body["details"].as_array().unwrap().iter();
        details.map(|detail| (text(&detail["field"]), text(&detail["code"]))).collect()
    }
}

/// Guards: every number of every answer is exact in JavaScript.
#[track_caller]
fn expect_exact_numbers(body: &Value) {
    match body {
        Value::Number(number) => {
            let number = number.as_f64().unwrap();
            assert!(number.abs() < 9_007_199_254_740_992.0, "{number} is not exact");
        }
        Value::Array(values) => values.iter().for_each(expect_exact_numbers),
        Value::Object(fields) => fields.values().for_each(expect_exact_numbers),
        _ => {}
    }
}

/// A browser of one person, more or less.
#[derive(Clone)]
pub struct Client {
    pub http: reqwest::Client,
    pub base: String,
    pub cookies: BTreeMap<String, String>,
}

pub const PASSWORD: &str = "a pail of cold water";

impl Client {
    pub fn new(base: &str) -> Self {
        Self { http: reqwest::Client::new(), base: base.to_owned(), cookies: BTreeMap::new() }
    }

    /// The same, with connections of its own from another address of this machine.
    pub fn from_address(base: &str, address: &str) -> Self {
        let http = reqwest::Client::builder()
            .local_address(Some(address.parse().unwrap()))
            .build()
            .unwrap();
        Self { http, ..Self::new(base) }
    }

    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.base));
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        match cookies.is_empty() {
            true => request,
            false => request.header("cookie", cookies.join("; ")),
        }
    }

    pub async fn send(&mut self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        expect_exact_numbers(&body);
        let cookies: Vec<String> = headers
            .get_all("set-cookie")
            .iter()
            .map(|value| value.to_str().unwrap().to_owned())
            .collect();
        for cookie in &cookies {
            let (name, rest) = cookie.split_once('=').unwrap();
            let value = rest.split(';').next().unwrap();
            match value.is_empty() {
                true => self.cookies.remove(name),
                false => self.cookies.insert(name.to_owned(), value.to_owned()),
            };
        }
        Answer { status, headers, body, cookies }
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(self.request("GET", path)).await
    }

    pub async fn post(&mut self, path: &str, body: Value) -> Answer {
        self.send(self.request("POST", path).json(&body)).await
    }

    pub async fn patch(&mut self, path: &str, body: Value) -> Answer {
        self.send(self.request("PATCH", path).json(&body)).await
    }

    pub async fn delete(&mut self, path: &str) -> Answer {
        self.send(self.request("DELETE", path)).await
    }

    pub async fn register(&mut self, email: &str) -> Answer {
        let body = json!({ "email": email, "password": PASSWORD, "displayName": "Ada" });
        self.post("/api/auth/register", body).await
    }

    pub async fn log_in(&mut self, email: &str, password: &str) -> Answer {
        let body = json!({ "email": email, "password": password });
        self.post("/api/auth/login", body).await
    }
}
