"""Changes to what schemathesis generates.

No request may name an image that the engine would look for on the internet.
"""
import os

import schemathesis

IMAGE = os.environ["OPENSANDBOX_TEST_IMAGE"]


@schemathesis.hook
def map_body(context, body):
    if isinstance(body, dict) and isinstance(body.get("image"), dict) and isinstance(body["image"].get("uri"), str):
        return {**body, "image": {**body["image"], "uri": IMAGE}}
    return body
