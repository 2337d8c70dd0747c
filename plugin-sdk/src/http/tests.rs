use super::*;
use crate::testing;
use std::cell::RefCell;
use std::rc::Rc;

#[test]
fn urls_are_taken_apart() {
    let check = |text: &str, expected: Option<(bool, &str, &str)>| {
        let url = Url::parse(text).ok();
        let got = url
            .as_ref()
            .map(|url| (url.is_https, url.authority.as_str(), url.path_with_query.as_str()));
        assert_eq!(got, expected, "{text}");
    };
    check("http://auth:8080/x?y=1", Some((false, "auth:8080", "/x?y=1")));
    check("HTTPS://Auth", Some((true, "Auth", "/")));
    check("http://auth?y", Some((false, "auth", "/?y")));
    check("http://[::1]:80/", Some((false, "[::1]:80", "/")));
    check("http://auth/x#fragment", Some((false, "auth", "/x")));
    for wrong in [
        "",
        "auth:8080/x",
        "/x",
        "http:/auth",
        "http://",
        "http:///x",
        "http://:80/",
        "ftp://auth/",
        "http://good@evil/",
        "http://auth/a b",
        "http://auth/\r\nx",
        "http://auth\\@evil/",
        "http://ä/",
    ] {
        check(wrong, None);
    }
}

#[test]
fn locations_are_resolved() {
    let base = Url::parse("http://auth:8080/a/b?c").unwrap();
    let check = |location: &str, expected: &str| {
        assert_eq!(base.join(location).unwrap(), expected, "{location}");
    };
    check("https://other/x", "https://other/x");
    check("//other/x", "http://other/x");
    check("/x?y", "http://auth:8080/x?y");
    check("?d", "http://auth:8080/a/b?d");
    check("x", "http://auth:8080/a/x");
    check("../x", "http://auth:8080/x");
    check("./../../..", "http://auth:8080/");
    check("/x/./y/../?q=..", "http://auth:8080/x/?q=..");
    check("", "http://auth:8080/a/b?c");
    assert_eq!(base.join("mailto:ann"), Err(Error::BadUrl));
}

#[test]
fn what_cannot_be_sent_is_an_error_before_it_is_sent() {
    testing::http(|_| panic!("it was sent"));
    let check = |builder: RequestBuilder, part: &str| {
        let error = builder.send().unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    check(get("http://a/").header("x", "a\r\nb: c"), "control characters");
    check(get("http://a/").header("x y", "z"), "not a header's name");
    check(get("http://a/").header("Host", "b"), "set by the broker");
    check(get("http://a/").header("content-length", "1"), "set by the broker");
    check(request("GET /", "http://a/"), "not a method");
    check(get("a"), "not an absolute");
    check(
        get("http://a/").json(&std::collections::BTreeMap::from([((1, 2), 3)])),
        "JSON",
    );
}

#[test]
fn bodies_carry_their_content_type() {
    let seen: Rc<RefCell<Vec<Request>>> = Rc::default();
    let backend = seen.clone();
    testing::http(move |request| {
        backend.borrow_mut().push(request.clone());
        Ok(Response::new(200).with_json(&serde_json::json!({ "result": "allow" })))
    });
    let answer = post("http://a/").form(&[("user name", "ä&="), ("x", "*-._~")]).send();
    let value: serde_json::Value = answer.unwrap().json().unwrap();
    assert_eq!(value["result"], "allow");
    post("http://a/").json(&[1, 2]).send().unwrap();
    let seen = seen.borrow();
    assert_eq!(seen[0].body, b"user+name=%C3%A4%26%3D&x=*-._%7E");
    assert_eq!(
        seen[0].header("Content-Type"),
        Some("application/x-www-form-urlencoded")
    );
    assert_eq!(
        (seen[1].body.as_slice(), seen[1].header("content-type")),
        (&b"[1,2]"[..], Some("application/json"))
    );
}

#[test]
fn an_answer_that_is_too_large_is_none() {
    testing::http(|_| Ok(Response::new(200).with_body(vec![0; 11])));
    assert_eq!(get("http://a/").max_body_bytes(10).send(), Err(Error::TooLarge));
    assert_eq!(get("http://a/").max_body_bytes(11).send().unwrap().body().len(), 11);
}

/// A backend that redirects `/N` to `/N-1` until 0, and remembers what it saw.
fn redirecting(status: u16, to: &'static str) -> Rc<RefCell<Vec<Request>>> {
    let seen: Rc<RefCell<Vec<Request>>> = Rc::default();
    let backend = seen.clone();
    testing::http(move |request| {
        backend.borrow_mut().push(request.clone());
        let left: u32 = request.url.rsplit('/').next().unwrap().parse().unwrap();
        Ok(match left {
            0 => Response::new(200),
            _ => Response::new(status).with_header("Location", &format!("{to}/{}", left - 1)),
        })
    });
    seen
}

#[test]
fn redirects_are_followed_as_often_as_allowed() {
    let check = |max, expected: Result<u16, Error>| {
        redirecting(302, "");
        let answer = get("http://a/2").max_redirects(max).send();
        assert_eq!(answer.map(|answer| answer.status()), expected, "{max}");
    };
    check(0, Ok(302));
    check(1, Err(Error::TooManyRedirects));
    check(2, Ok(200));
    check(3, Ok(200));
}

#[test]
fn a_redirect_keeps_what_its_status_says_and_leaves_credentials_behind() {
    let check = |status, to, expected: (&str, usize, bool)| {
        let seen = redirecting(status, to);
        let request = post("http://a/1").header("Authorization", "x").body("body");
        request.max_redirects(1).send().unwrap();
        let seen = seen.borrow();
        let last = seen.last().unwrap();
        let got = (
            last.method.as_str(),
            last.body.len(),
            last.header("authorization").is_some(),
        );
        assert_eq!(got, expected, "{status} {to}");
    };
    check(301, "", ("GET", 0, true));
    check(302, "", ("GET", 0, true));
    check(303, "", ("GET", 0, true));
    check(307, "", ("POST", 4, true));
    check(308, "", ("POST", 4, true));
    check(307, "http://A", ("POST", 4, true));
    check(307, "https://a", ("POST", 4, false));
    check(307, "http://b", ("POST", 4, false));
}
