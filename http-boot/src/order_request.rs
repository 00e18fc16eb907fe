//! An order as somebody asks for it, on the page or by the API, and what is checked before it counts.

use init::server_plan::ServerPlan;
use init::signed::SIGNATURE_LIMIT;
use serde::Deserialize;

use crate::devices::Serial;
use crate::http::Site;
use crate::images;
use crate::orders::{Command, Standing};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case", deny_unknown_fields)]
pub enum OrderRequest {
    /// The rescue at the next boot.
    RescueNext {},
    /// An image until changed.
    Assign {
        /// The path of its squashfs below the root.
        image: String,
    },
    /// A plan that was signed for this device.
    Plan {
        /// The plan, byte by byte as it was signed.
        plan: String,
        /// Its minisign signature.
        minisig: String,
    },
    /// No order any more.
    Clear {},
}

impl OrderRequest {
    /// Checks it. Blocks: it may read manifests.
    ///
    /// # Errors
    /// One sentence that says what is wrong.
    pub fn check(self, site: &Site, serial: &Serial) -> Result<Command, String> {
        match self {
            Self::RescueNext {} => Ok(Command::RescueNext),
            Self::Clear {} => Ok(Command::Clear),
            Self::Assign { image } => {
                let found = site.images.list(&site.root).into_iter().find(|known| known.path == image);
                match found.map(|known| known.problem) {
                    None => Err(format!("there is no image {image:?} below the root")),
                    Some(Some(problem)) => Err(format!("{image} cannot be assigned: {problem}")),
                    Some(None) => Ok(Command::Stand(Standing::Assign { image })),
                }
            }
            Self::Plan { plan, minisig } => {
                ServerPlan::check_form(plan.as_bytes(), true, serial.as_str())
                    .map_err(|error| format!("the plan is refused: {error}"))?;
                if minisig.len() > SIGNATURE_LIMIT
                    || minisign_verify::Signature::decode(&minisig).is_err()
                    || images::key_id(&minisig).is_none()
                {
                    return Err(
                        "the signature is none of minisign: it has four lines, as in PLAN.json.minisig"
                            .into(),
                    );
                }
                Ok(Command::Stand(Standing::Plan { plan, minisig }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::files::Root;

    fn check(request: OrderRequest) -> Result<Command, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.squashfs"), "x").unwrap();
        let site = Site::new(
            std::sync::Arc::new(Root::open(folder.path()).unwrap()),
            None,
            std::sync::Arc::default(),
        );
        request.check(&site, &"one".parse().unwrap())
    }

    #[test]
    fn only_what_a_pi_could_follow() {
        assert_eq!(check(OrderRequest::RescueNext {}), Ok(Command::RescueNext));
        let assign = |image: &str| check(OrderRequest::Assign { image: image.into() }).unwrap_err();
        assert!(assign("b.squashfs").contains("no image"));
        assert!(assign("a.squashfs").contains("cannot be assigned: it has no manifest"));

        let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
        let plan = r#"{"format":1,"device":"one","parameters":"root=UUID=1"}"#;
        let minisig = minisign::sign(None, &pair.sk, plan.as_bytes(), None, None).unwrap().to_string();
        let upload = |plan: &str, minisig: &str| {
            check(OrderRequest::Plan { plan: plan.into(), minisig: minisig.into() })
        };
        assert!(matches!(upload(plan, &minisig), Ok(Command::Stand(Standing::Plan { .. }))));
        assert!(upload(&plan.replace("one", "two"), &minisig).unwrap_err().contains("it is for two"));
        assert!(upload(&plan.replace("root=UUID=1", "lifeboat.console=open"), &minisig).is_err());
        assert!(upload("{", &minisig).unwrap_err().contains("not a plan"));
        assert!(upload(plan, "signed, really").unwrap_err().contains("none of minisign"));
    }

    #[test]
    fn as_json() {
        let parse = |json: &str| serde_json::from_str::<OrderRequest>(json);
        assert_eq!(parse(r#"{"order":"rescue_next"}"#).unwrap(), OrderRequest::RescueNext {});
        assert!(parse(r#"{"order":"assign"}"#).is_err());
        assert!(parse(r#"{"order":"format_disk"}"#).is_err());
    }
}
