# The files come from scripts/images.sh. Compiled in the image, because its Python need not be that of the machine.
FROM opensandbox/debian-python:dev
ADD jupyter.tar /
RUN python3 -m compileall -q /usr/local/lib/python3.11/dist-packages || true
ENV JUPYTER_HOST=http://127.0.0.1:44771 JUPYTER_PORT=44771 JUPYTER_TOKEN=opensandboxcodeinterpreterjupyter
ENTRYPOINT ["/opt/code-interpreter/code-interpreter.sh"]
