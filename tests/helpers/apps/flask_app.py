"""A Flask service whose visitors have a signed cookie, and may sign in."""

import os
from uuid import uuid4

from flask import Flask, g, request, session
from writers import writer

from activity_tracker_hll.web import Activity
from activity_tracker_hll.web.wsgi import ActivityMiddleware

app = Flask(__name__)
app.secret_key = "not a secret"  # noqa: S105 (every worker needs the same)


@app.get("/")
def page():
    return session.setdefault("visitor", uuid4().hex)


@app.post("/sign-in")
def sign_in():
    g.moved_from = session["visitor"]
    session["user"] = request.args["user"]
    return "welcome"


@app.post("/flush")
def flush():
    writer.flush()
    return str(os.getpid())


def identify(_environ):
    if "user" in session:
        return Activity(session["user"], "member", g.get("moved_from"), "anon")
    return Activity(session["visitor"], "anon") if "visitor" in session else None


app.wsgi_app = ActivityMiddleware(app.wsgi_app, writer, identify)
