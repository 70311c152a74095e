//! Guards: the OpenAPI document is a contract, and its page loads nothing from elsewhere.

use std::collections::BTreeSet;

use daybook_ledger::Reader;
use daybook_schema::Seq;
use serde_json::Value;

use crate::house::House;

fn document() -> Value {
    serde_json::to_value(daybook_api::document()).unwrap()
}

/// Guards: what clients were told. `DAYBOOK_ACCEPT=1` takes today's for right.
#[test]
fn the_document_is_the_one_that_was_told() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    let today = serde_json::to_string_pretty(&document()).unwrap() + "\n";
    if std::env::var_os("DAYBOOK_ACCEPT").is_some() {
        std::fs::write(path, &today).unwrap();
    }
    let told = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        told == today,
        "openapi.json is another; look at it and accept it with DAYBOOK_ACCEPT=1"
    );
}

/// Guards: every refusal stands in the document with an example that has its shape.
#[test]
fn every_operation_shows_its_refusals_with_examples() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    let mut operations = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let responses = operation["responses"].as_object().unwrap();
            let statuses: BTreeSet<&str> = responses.keys().map(String::as_str).collect();
            let mut expected = vec!["500", "503"];
            if path.starts_with("/api/") {
                expected.extend(["408", "414", "429"]);
            }
            if method != "get" {
                expected.push("403");
            }
            if operation.get("requestBody").is_some() {
                expected.extend(["400", "413", "415"]);
            }
            if operation.get("security").is_some() {
                expected.push("401");
            }
            for status in expected {
                assert!(statuses.contains(status), "{method} {path} lacks {status}");
            }
            for (status, response) in
                responses.iter().filter(|(status, _)| status.as_str() >= "400")
            {
                let example = &response["content"]["application/json"]["example"];
                for field in ["error", "message", "details"] {
                    assert!(!example[field].is_null(), "{method} {path} {status} has no {field}");
                }
                let code =
                    daybook_api::Code::ALL.iter().find(|code| code.as_str() == example["error"]);
                assert_eq!(code.unwrap().status().to_string(), *status, "{method} {path}");
            }
            operations += 1;
        }
    }
    assert!(operations >= 16, "{operations}");
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere() {
    let house = House::new().await;
    let mut client = house.client();
    assert_eq!(client.get("/openapi.json").await.expect(200).body, document());
    let page = client.get("/docs/").await.expect(200);
    let text = page.body.as_str().unwrap().to_owned();
    assert!(!text.contains("http://") && !text.contains("https://"), "{text}");
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    for part in ["swagger-ui.css", "swagger-ui-bundle.js", "swagger-initializer.js"] {
        client.get(&format!("/docs/{part}")).await.expect(200);
    }
    let reset = client.get("/reset").await.expect(200);
    assert!(reset.body.as_str().unwrap().contains("/reset.js"));
    client.get("/reset.js").await.expect(200);
}

/// An event has the fields that the client for TypeScript says.
#[tokio::test]
async fn the_clients_events_have_the_fields_that_come() {
    let house = House::new().await;
    let reader = Reader::open(house.directory()).unwrap();
    let event = serde_json::to_value(reader.event(Seq::MIN).unwrap()).unwrap();
    let come: BTreeSet<&str> = event.as_object().unwrap().keys().map(String::as_str).collect();
    let client = include_str!("../../typescript/feed.ts");
    let (_, interface) = client.split_once("export interface LedgerEvent {").unwrap();
    let (interface, _) = interface.split_once("\n}").unwrap();
    let fields = interface.lines().filter(|line| line.ends_with(';'));
    let said: BTreeSet<&str> = fields.map(|line| line.split_once(':').unwrap().0.trim()).collect();
    assert_eq!(come, said);
}
