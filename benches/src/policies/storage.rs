//! What every request to object storage costs besides being sent: its signature, which is made
//! for each attempt, and the hash of its body, which is made once.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use origin_core::Wall;
use origin_core::config::StorageConfig;
use origin_core::s3::{ETag, Settings, Signer, multipart};

use super::{Case, Made, batch, unjudged};

pub(super) const CASES: &[Case] = &[
    unjudged("s3_sign", "signature of a GET: four headers, the key of the day derived anew", sign),
    unjudged("s3_hash_64k", "a signer for a body of 64 KiB, which is hashed", || hash(64 << 10)),
    unjudged("s3_hash_1m", "the same for 1 MiB", || hash(1 << 20)),
    unjudged("s3_composed_100", "tag of an object of 100 parts: MD5", composed),
    unjudged("s3_completed", "reading the reply to the end of an upload", || {
        Ok(batch(|| {
            let reply = black_box(
                &b"<?xml version=\"1.0\"?><CompleteMultipartUploadResult><Location>http://s/b/k\
                </Location><Bucket>b</Bucket><Key>k</Key><ETag>&quot;3858f62230ac3c915f300c664312c\
                11f-9&quot;</ETag></CompleteMultipartUploadResult>"[..],
            );
            black_box(multipart::completed(reply)).is_ok()
        }))
    }),
];

fn settings() -> Result<Arc<Settings>, Box<dyn std::error::Error>> {
    let config = StorageConfig {
        access_key: Some("AKIAIOSFODNN7EXAMPLE".to_owned()),
        secret_key: origin_core::Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        ..StorageConfig::default()
    };
    Ok(Arc::new(Settings::of(&config, "storage", |_| None)?))
}

fn sign() -> Made {
    let signer = Signer::new(&settings()?, b"").ok_or("there is no key")?;
    let mut request = http::Request::new(Bytes::new());
    *request.uri_mut() = "http://10.0.0.1:9000/vault-backups/2026/11/21/full.tar".parse()?;
    Ok(batch(move || {
        signer.sign(black_box(&mut request), Wall(1_369_353_600));
        black_box(&request).headers().len() == 3
    }))
}

fn hash(size: usize) -> Made {
    let (settings, body) = (settings()?, vec![7; size]);
    Ok(batch(move || black_box(Signer::new(&settings, black_box(&body))).is_some()))
}

fn composed() -> Made {
    let part = ETag::new("0cc175b9c0f1b6a831c399e269772661").ok_or("that is no tag")?;
    let parts = vec![part; 100];
    Ok(batch(move || black_box(multipart::composed(black_box(&parts))).is_some()))
}
