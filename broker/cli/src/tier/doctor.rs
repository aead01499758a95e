//! `strandline tier doctor`: whether a store can be used for tiering, and what it must allow.

use anyhow::bail;
use bytes::Bytes;
use clap::Args;
use serde_json::json;
use strandline_server::ids;
use strandline_tiering::IdSource;
use strandline_tiering::store::{Purpose, RemoteStore, StoreError, StoreUrl};

use crate::bucket::{BucketArguments, block_on, table};

/// Check that a store can be used, permission by permission
///
/// Writes, reads, lists and deletes objects below meta/doctor, a large one among them, proves that conditional writes work,
/// and looks for rules of the bucket that would take objects away. Prints the least policy that a broker needs. Ends with
/// status 1 when something is missing.
#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// The store; the same as --from
    url: Option<String>,
    #[command(flatten)]
    bucket: BucketArguments,
}

pub fn run(arguments: &DoctorArguments) -> anyhow::Result<()> {
    let mut tier = arguments.bucket.tier_config()?;
    if let Some(url) = &arguments.url {
        tier.url.clone_from(url);
    }
    let store = tier
        .open_store(strandline_tiering::store::StoreMetrics::unregistered())?
        .with_purpose(Purpose::Probe);
    let checks = block_on(async { Ok(check(&store).await) })?;
    let policy = policy(&tier.url);
    let report = json!({
        "url": tier.url,
        "checks": checks
            .iter()
            .map(|(what, error)| json!({ "check": what, "ok": error.is_none(), "error": error }))
            .collect::<Vec<_>>(),
        "policy": policy,
    });
    arguments.bucket.print(&report, || {
        let rows: Vec<Vec<String>> = checks
            .iter()
            .map(|(what, error)| {
                let result = error.clone().unwrap_or_else(|| "ok".to_owned());
                vec![(*what).to_owned(), result]
            })
            .collect();
        let mut text = table(&["check", "result"], &rows);
        if let Some(policy) = &policy {
            let pretty = serde_json::to_string_pretty(policy).unwrap_or_default();
            text.push_str(&format!("\nthe least policy that a broker needs:\n{pretty}\n"));
            text.push_str(
                "\nA lifecycle rule of the bucket should abort incomplete multipart uploads after a day or more. No rule may \
                 expire or archive objects: the manifests decide what goes.\n",
            );
        }
        text
    })?;
    let failed = checks.iter().filter(|(_, error)| error.is_some()).count();
    if failed > 0 {
        bail!("{failed} checks failed");
    }
    Ok(())
}

type Check = (&'static str, Option<String>);

async fn check(store: &RemoteStore) -> Vec<Check> {
    let ids = IdSource::from_seed(ids::new_seed());
    let key = format!("meta/doctor/{:016x}", ids.random());
    let body = Bytes::from_static(b"strandline tier doctor");
    let told = |result: Result<(), StoreError>| result.err().map(|error| error.to_string());
    let mut checks: Vec<Check> = Vec::new();
    checks.push((
        "write an object (s3:PutObject)",
        told(store.put_if_absent(&key, body.clone()).await.map(drop)),
    ));
    let whole = match store.get(&key).await {
        Ok((bytes, _)) if bytes == body => None,
        Ok(_) => Some("it reads back something else".to_owned()),
        Err(error) => Some(error.to_string()),
    };
    checks.push(("read it (s3:GetObject)", whole));
    let range = match store.get_suffix(&key, 6).await {
        Ok((bytes, length)) if &bytes[..] == b"doctor" && length == body.len() as u64 => None,
        Ok(_) => Some("ranges do not work".to_owned()),
        Err(error) => Some(error.to_string()),
    };
    checks.push(("read a range of it", range));
    let listed = futures_listed(store, &key).await;
    checks.push(("list it (s3:ListBucket)", listed));
    checks.push((
        "delete it (s3:DeleteObject)",
        told(store.delete(&key).await),
    ));
    let gone = match store.get(&key).await {
        Err(StoreError::NotFound { .. }) => None,
        Ok(_) => Some("it is still there after it was deleted".to_owned()),
        Err(error) => Some(error.to_string()),
    };
    checks.push(("see that it is gone", gone));
    checks.push((
        "conditional writes (If-Match, If-None-Match)",
        told(store.probe_conditional_writes("doctor", &ids).await),
    ));
    checks.push((
        "write and delete an object of 16 MiB",
        told(store.probe_large(&format!("{key}-large")).await),
    ));
    checks.push(("versioning", versioning(store).await));
    checks.push(("expiry and archive rules", lifecycle(store).await));
    checks
}

/// Versions of deleted objects cost as long as no rule removes them.
async fn versioning(store: &RemoteStore) -> Option<String> {
    let xml = match store.bucket_setting("versioning").await {
        Ok(xml) => xml?,
        Err(error) => return Some(error.to_string()),
    };
    if !xml.contains("<Status>Enabled</Status>") {
        return None;
    }
    match store.bucket_setting("lifecycle").await {
        Ok(Some(rules)) if rules.contains("<NoncurrentVersionExpiration>") => None,
        Ok(_) => Some(
            "it is on, and no rule removes old versions: what retention deletes is paid for ever; add a \
             NoncurrentVersionExpiration or switch it off"
                .to_owned(),
        ),
        Err(error) => Some(error.to_string()),
    }
}

/// The manifests decide what goes: a rule that takes objects away, or puts them where reads fail, is damage in waiting.
async fn lifecycle(store: &RemoteStore) -> Option<String> {
    match store.bucket_setting("lifecycle").await {
        Ok(rules) => harmful_rules(&rules?),
        Err(error) => Some(error.to_string()),
    }
}

fn harmful_rules(xml: &str) -> Option<String> {
    let mut harmful = Vec::new();
    for rule in xml.split("<Rule>").skip(1) {
        if !rule.contains("<Status>Enabled</Status>") {
            continue;
        }
        let id = rule
            .split_once("<ID>")
            .and_then(|(_, rest)| rest.split_once("</ID>"))
            .map_or("(without a name)", |(id, _)| id);
        // That of markers of deleted versions harms nothing.
        let expires = rule.split("<Expiration>").skip(1).any(|rest| {
            let expiration = rest.split("</Expiration>").next().unwrap_or_default();
            expiration.contains("<Days>") || expiration.contains("<Date>")
        });
        if expires {
            harmful.push(format!("the rule {id} expires objects"));
        }
        if ["GLACIER<", "DEEP_ARCHIVE<"]
            .iter()
            .any(|class| rule.contains(class))
        {
            harmful.push(format!(
                "the rule {id} archives objects, which cannot be read from there"
            ));
        }
    }
    (!harmful.is_empty()).then(|| harmful.join("; "))
}

async fn futures_listed(store: &RemoteStore, key: &str) -> Option<String> {
    match store.list_keys("meta/doctor").await {
        Ok(keys) if keys.iter().any(|listed| listed == key) => None,
        Ok(_) => Some("a listing does not show what was just written".to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

/// For a bucket of S3; a folder needs none.
fn policy(url: &str) -> Option<serde_json::Value> {
    let Ok(StoreUrl::S3 { bucket, prefix }) = url.parse() else {
        return None;
    };
    let below = if prefix.is_empty() {
        "*".to_owned()
    } else {
        format!("{prefix}/*")
    };
    Some(json!({
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
                "Resource": format!("arn:aws:s3:::{bucket}/{below}"),
            },
            {
                "Effect": "Allow",
                "Action": ["s3:ListBucket"],
                "Resource": format!("arn:aws:s3:::{bucket}"),
                "Condition": { "StringLike": { "s3:prefix": [below] } },
            },
            {
                "Sid": "OnlyForDoctor",
                "Effect": "Allow",
                "Action": ["s3:GetBucketVersioning", "s3:GetLifecycleConfiguration"],
                "Resource": format!("arn:aws:s3:::{bucket}"),
            },
        ],
    }))
}

#[cfg(test)]
mod tests {
    use super::harmful_rules;

    #[test]
    fn rules_that_take_objects_away_are_named() {
        let rule = |status: &str, what: &str| {
            format!(
                "<LifecycleConfiguration><Rule><ID>r</ID><Status>{status}</Status>{what}</Rule></LifecycleConfiguration>"
            )
        };
        let table = [
            (
                "Enabled",
                "<Expiration><Days>30</Days></Expiration>",
                Some("expires"),
            ),
            ("Disabled", "<Expiration><Days>30</Days></Expiration>", None),
            (
                "Enabled",
                "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>",
                None,
            ),
            (
                "Enabled",
                "<Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition>",
                Some("archives"),
            ),
            (
                "Enabled",
                "<Transition><Days>1</Days><StorageClass>STANDARD_IA</StorageClass></Transition>",
                None,
            ),
            (
                "Enabled",
                "<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>",
                None,
            ),
        ];
        for (status, what, expected) in table {
            let found = harmful_rules(&rule(status, what));
            assert_eq!(found.is_some(), expected.is_some(), "{what}: {found:?}");
            assert!(
                found
                    .unwrap_or_default()
                    .contains(expected.unwrap_or_default())
            );
        }
    }
}
