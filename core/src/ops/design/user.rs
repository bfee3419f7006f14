//! Users, their roles, and how one signs in.

use http::Method;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;

use super::client::ids;
use super::wire::{Fields, list, nullable};
use crate::ops::{Caller, encode_query};
use crate::secret::Secret;
use crate::vault::wire::Object;

client! {
    /// The user service. `Accept-Version: v1` goes along; ask for another by
    /// `header("accept-version", "v2")`. What the server demands a token for is said there:
    /// [`Users::bearer`].
    ///
    /// The published server has no `/users` beyond roles, and signs in by a form at `/token`.
    Users, "user-service", ["accept": "application/json", "accept-version": "v1"], "/", "/"
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its id.
    pub id: i64,
    /// Its address of e-mail.
    #[serde(default)]
    pub email: Option<String>,
    /// The name it signs in with.
    #[serde(default)]
    pub username: Option<String>,
    /// What else the server says.
    #[serde(flatten)]
    pub other: Fields,
}

/// A role: an object with a name, or the name alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Role {
    /// Its id, where it has one.
    pub id: Option<i64>,
    /// Its name.
    pub name: String,
    /// What else the server says.
    #[serde(flatten)]
    pub other: Fields,
}

impl<'de> Deserialize<'de> for Role {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Role, D::Error> {
        #[derive(Deserialize)]
        struct Whole {
            #[serde(default)]
            id: Option<i64>,
            name: String,
            #[serde(flatten)]
            other: Fields,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Name(String),
            Whole(Whole),
        }
        // Without what it found: it is another's text.
        let refuse = |_| serde::de::Error::custom("a role is a name, or an object with one");
        Ok(match Either::deserialize(from).map_err(refuse)? {
            Either::Name(name) => Role { id: None, name, other: Fields::new() },
            Either::Whole(Whole { id, name, other }) => Role { id, name, other },
        })
    }
}

/// What signing in yields. Its tokens are not printed; hand them to `bearer` of any client.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Session {
    /// What requests are made with.
    pub access_token: Secret,
    /// What [`Users::refresh`] takes, where there is one.
    #[serde(default)]
    pub refresh_token: Option<Secret>,
    /// `bearer`, as a rule.
    #[serde(default)]
    pub token_type: Option<String>,
    /// Who signed in, where the server says.
    #[serde(default)]
    pub user_id: Option<i64>,
    /// Its roles, where the server says.
    #[serde(default, deserialize_with = "nullable")]
    pub roles: Vec<Role>,
}

impl<C: Caller> Users<C> {
    /// A user.
    pub fn get(&self, user_id: i64) -> C::Reply<User> {
        ids(self.0.api.get("get", "/users/{user_id}"), &[("user_id", user_id)]).read()
    }

    /// Makes a user of these fields.
    pub fn create<B: Serialize + ?Sized>(&self, fields: &B) -> C::Reply<User> {
        self.0.api.post("create", "/users").json(fields).read()
    }

    /// The same under an `Idempotency-Key`, so that it may be repeated.
    pub fn create_with_key<B: Serialize + ?Sized>(&self, fields: &B, key: &str) -> C::Reply<User> {
        self.0.api.post("create", "/users").json(fields).idempotency_key(key).read()
    }

    /// Changes a user.
    pub fn update<B: Serialize + ?Sized>(&self, user_id: i64, fields: &B) -> C::Reply<User> {
        let operation = self.0.api.put("update", "/users/{user_id}").json(fields);
        ids(operation, &[("user_id", user_id)]).read()
    }

    /// Removes a user.
    pub fn delete(&self, user_id: i64) -> C::Reply<()> {
        ids(self.0.api.delete("delete", "/users/{user_id}"), &[("user_id", user_id)]).nothing()
    }

    /// Signs in: `POST /auth/login` with JSON, or, published, `POST /token` with a form, in which the
    /// address is the user name. Leaves nothing behind but a new token, so it may be repeated. The
    /// password is in the body and nowhere else.
    pub fn authenticate(&self, email: &str, password: &str) -> C::Reply<Session> {
        let operation = self.0.api.post("authenticate", self.0.way("/auth/login", "/token"));
        let operation = if self.0.published {
            let form =
                format!("username={}&password={}", encode_query(email), encode_query(password));
            operation.body("application/x-www-form-urlencoded", form)
        } else {
            operation.json(&json!({"email": email, "password": password}))
        };
        operation.idempotent(true).with(|response| Ok(response.ok()?.json::<Object<_>>()?.0))
    }

    /// New tokens for a refresh token. Not repeated: the token may be good for one use.
    pub fn refresh(&self, refresh_token: &Secret) -> C::Reply<Session> {
        let operation = self.0.api.post("refresh", "/token/refresh");
        let operation = operation.json(&json!({"refresh_token": refresh_token.expose()}));
        operation.with(|response| Ok(response.ok()?.json::<Object<_>>()?.0))
    }

    /// The roles of a user.
    pub fn roles(&self, user_id: i64) -> C::Reply<Vec<Role>> {
        let operation = self.0.api.get("roles", "/users/{user_id}/roles");
        ids(operation, &[("user_id", user_id)]).with(list)
    }

    /// The roles of whoever the token belongs to.
    pub fn own_roles(&self) -> C::Reply<Vec<Role>> {
        self.0.api.get("own roles", "/users/me/roles").with(list)
    }

    /// Gives a user a role.
    pub fn grant(&self, user_id: i64, role: &str) -> C::Reply<()> {
        self.role("grant", Method::POST, user_id, role)
    }

    /// Takes a role from a user.
    pub fn revoke(&self, user_id: i64, role: &str) -> C::Reply<()> {
        self.role("revoke", Method::DELETE, user_id, role)
    }

    fn role(&self, name: &'static str, method: Method, user_id: i64, role: &str) -> C::Reply<()> {
        let operation = self.0.api.operation(name, method, "/users/{user_id}/roles/{role}");
        // Having a role twice is having it, so either may be repeated.
        ids(operation, &[("user_id", user_id)]).segment("role", role).idempotent(true).nothing()
    }

    /// All roles there are.
    pub fn all_roles(&self) -> C::Reply<Vec<Role>> {
        self.0.api.get("all roles", "/roles").with(list)
    }

    /// Makes a role of these fields.
    pub fn create_role<B: Serialize + ?Sized>(&self, fields: &B) -> C::Reply<Role> {
        self.0.api.post("create role", "/roles").json(fields).read()
    }

    /// The same under an `Idempotency-Key`, so that it may be repeated.
    pub fn create_role_with_key<B: Serialize + ?Sized>(
        &self,
        fields: &B,
        key: &str,
    ) -> C::Reply<Role> {
        self.0.api.post("create role", "/roles").json(fields).idempotency_key(key).read()
    }

    /// The profile of whoever the token belongs to.
    pub fn profile(&self) -> C::Reply<Fields> {
        self.0.api.get("profile", "/users/me/profile").read()
    }

    /// Replaces that profile.
    pub fn replace_profile<B: Serialize + ?Sized>(&self, profile: &B) -> C::Reply<Fields> {
        self.0.api.put("replace profile", "/users/me/profile").json(profile).read()
    }

    /// Changes some fields of that profile.
    pub fn change_profile<B: Serialize + ?Sized>(&self, fields: &B) -> C::Reply<Fields> {
        self.0.api.patch("change profile", "/users/me/profile").json(fields).read()
    }
}
