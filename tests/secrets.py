"""Secrets of every kind that is known, put together here: as a whole they would alarm a scanner."""

from __future__ import annotations

import json

A20, A40 = "aB3dE6gH1jK4mN7pQ0sT", "aB3dE6gH1jK4mN7pQ0sTuV5xY8zA2cD9fG1hJ4kL"
HEX32 = "0123456789abcdef" * 2
PEM = "-----{} {}PRIVATE KEY{}-----"
BODY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nBKcwggSjAgEAAoIBAQC7\n"


def pem(kind: str = "", block: str = "", newline: str = "\n") -> str:
    body = BODY.replace("\n", newline)
    return newline.join([PEM.format("BEGIN", kind, block), body + PEM.format("END", kind, block)])


# By kind; what is left of each is not to be found in what is stored.
PLANTED = {
    "aws key": "AKIA" + "IOSFODNN7EXAMPLE",
    "aws session key": "ASIA" + "IOSFODNN7EXAMPLE",
    "anthropic key": "sk-ant-" + "api03-" + A40,
    "anthropic oauth": "sk-ant-" + "oat01-" + A40,
    "openai project": "sk-proj-" + "aB3_dE6-" + A40,
    "openai service": "sk-svcacct-" + A40,
    "openai old": "sk-" + A40,
    "openrouter": "sk-or-" + "v1-" + HEX32,
    "github": "ghp_" + A40,
    "github user": "ghu_" + A40,
    "github fine-grained": "github_pat_" + A20 + "_" + A40,
    "gitlab": "glpat-" + A20,
    "google": "AIza" + "Sy" + A40[:33],
    "google oauth": "ya29." + A40,
    "slack": "xoxb-" + "123456789012-" + A20,
    "slack hook": "https://hooks.slack.com/services/" + "T0AAAAAAA/B0AAAAAAA/" + A20,
    "stripe": "sk_live_" + A20,
    "stripe restricted": "rk_test_" + A20,
    "hugging face": "hf_" + A40,
    "npm": "npm_" + A40[:36],
    "pypi": "pypi-" + "AgEIcHlwaS5vcmc" + A40,
    "sendgrid": "SG." + A20 + "." + A40,
    "telegram": "1234567890:" + "AA" + A40[:33],
    "twilio": "SK" + HEX32,
    "groq": "gsk_" + A40,
    "vault": "hvs." + A40,
    "jwt": "eyJ" + A20 + ".eyJ" + A20 + "." + A20,
    "database url": "postgres://app:" + "hunter2" + "@db.example/app",
    "https url": "https://user:" + "hunter2%21" + "@example.com/x",
    "azure": "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=" + A40 + "==;",
    "azure sas": "https://a.blob.core.windows.net/c?sv=1&sig=" + A40 + "%3D",
    "bearer": "Authorization: Bearer " + A40,
    "basic": "authorization: basic " + "dXNlcjpodW50ZXIyaHVudGVyMg" + "==",
    "environment": "export DB_PASSWORD=" + "hunter2hunter2",
    "yaml": "api_key: " + A20,
    "json text": json.dumps({"client_secret": "hunter2 hunter2"}),
    "json in json": json.dumps(json.dumps({"access_token": "hunter2 hunter2"})),
    "python": "PASSWORD = " + "'hunter2 hunter2'",
    "pem": pem(),
    "pem rsa": pem("RSA "),
    "pem ssh": pem("OPENSSH "),
    "pem encrypted": pem("ENCRYPTED "),
    "pem pgp": pem("PGP ", " BLOCK"),
    "pem escaped": pem(newline="\\n"),
    "pem cut off": PEM.format("BEGIN", "RSA ", "") + "\n" + BODY,
}

A24, A64 = A40[:24], (A40 + A20 + A40)[:64]
HEX40, HEX64 = HEX32 + HEX32[:8], HEX32 * 2
DIGITS = "123456789012"
MORE = {
    "github app": "ghs_" + "123456_eyJ" + A20 + ".eyJ" + A40 + "." + A20,
    "gitlab routable": "glpat-" + A24 + ".01." + "ab3de6gh1",
    "slack client": "xoxc-" + DIGITS + "-" + HEX64,
    "slack cookie": "xoxd-" + A20 + "%2B" + A40,
    "teams hook": "https://x.webhook.office.com/webhookb2/" + A20 + "@" + A20 + "/" + A40,
    "google new": "AQ.Ab" + "8R" + A40,
    "google refresh": "1//0g" + A40,
    "bedrock": "ABSK" + A64,
    "azure client secret": "aB3" + "8Q~" + A40[:34],
    "azure openai": (A40 + A20)[:52] + "JQQJ99" + A20 + "ACOGx1",
    "azure devops": (A40 + A40)[:76] + "AZDO" + "4f2a",
    "docker": "dckr_pat_" + A24,
    "atlassian": "ATATT3" + "xFf" + A40 + "=1A2B3C4D",
    "sentry": "sntrys_" + "eyJ" + A40 + "_" + A40,
    "grafana": "glsa_" + A40[:32] + "_1234abcd",
    "planetscale": "pscale_pw_" + A40,
    "supabase": "sb_secret_" + A24,
    "pinecone": "pcsk_" + A20 + "_" + A40,
    "vercel": "vcp_" + A40,
    "cloudflare": "cfut_" + A40,
    "fly": "fm2_" + A64,
    "heroku": "HRKU-AA" + A40,
    "langfuse": "sk-lf-" + "01234567-0123-4567-89ab-0123456789ab"[:24] + A20,
    "langsmith": "lsv2_sk_" + HEX32 + "_0123456789",
    "eleven labs": "sk_" + HEX40 + "01234567",
    "firecrawl": "fc-" + HEX32,
    "cerebras": "csk-" + HEX40,
    "airtable": "pat" + A20[:14] + "." + HEX64,
    "brevo": "xkeysib-" + HEX64 + "-" + A20,
    "terraform": A20[:14] + ".atlasv1." + A64,
    "1password": "ops_eyJ" + A64,
    "age": "AGE-SECRET-KEY-1" + "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L" * 2,
    "discord bot": "MT" + A24 + ".Ab3dE6." + A40,
    "jwe": "eyJ" + A20 + ".." + A20 + "." + A40 + "." + A20,
    "url with an at": "postgres://app:" + "hunter2@hunter2" + "@db.example/app",
    "environment token": "SLACK_TOKEN=" + A24,
    "option": "mysql --password " + "hunter2x9" + " -u root",
    "curl": "curl -s -u admin:" + "hunter2hunter2" + " https://example.com",
    "signed url": "https://b.example/k?X-Amz-Signature=" + HEX64,
    "number": '{"password": ' + "20230417" + "}",
    "with marks": json.dumps({"password": "hunter2, (hunter2); 'x'"}),
    "on the next line": "password:\n  " + "hunter2hunter2",
    "django": "SECRET_KEY = '" + "django-insecure-" + A40 + "'",
    "pem end": BODY + PEM.format("END", "RSA ", ""),
    "pem in base64": "client-key-data: LS0tLS1CRUdJTi" + "BSU0EgUFJJ" + A64,
    "pem ssh2": "---- BEGIN SSH2 ENCRYPTED " + "PRIVATE KEY ----\n" + BODY,
    "putty": "Private-Lines: 2\n" + BODY + "Private-MAC: " + HEX40,
}
PLANTED |= MORE
REMAINS = [
    *(A20, A20[8:], A40[10:30], HEX32, "IOSFODNN7EXAMPLE", "hunter2", "dXNlcjpodW50", HEX64[:20]),
    *("20230417", "QPZRY9X8", "2FBaB3dE", "JQQJ99aB3"),
    *(BODY[:20], BODY[40:50]),
]
