# One image for Dataflow's workers and for the launcher of its Flex Template.
#
#   docker build -t IMAGE .                                  TensorFlow for CPUs
#   docker build -t IMAGE --build-arg EXTRAS=aws,gpu .       with CUDA
#   docker build -t IMAGE --build-arg MODEL=BiT-M-R50x1.npz .
#
# docs/dataflow.md has the names that `bitbeam run` looks for.

# Both must be the launcher's own: tests/test_container.py holds them to it.
ARG PYTHON=3.11
ARG BEAM=2.77.0

FROM apache/beam_python${PYTHON}_sdk:${BEAM} AS sdk
FROM gcr.io/dataflow-templates-base/python311-template-launcher-base:20230622_RC00 AS launcher

FROM python:${PYTHON}-slim
ARG PYTHON
ARG BEAM
ARG EXTRAS=aws

WORKDIR /opt/bitbeam
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

# What bitbeam needs, without bitbeam: gigabytes, in a layer of their own that stays
# the same, and is not pushed or pulled again, when only the code changes. What pip
# leaves in build/ would be taken for the code below. TensorFlow's headers are 430 MB
# for those who compile against it.
COPY setup.py pyproject.toml constraints.txt ./
RUN mkdir pipeline transforms \
    && touch README.md pipeline/__init__.py transforms/__init__.py \
    && pip install --constraint constraints.txt ".[${EXTRAS}]" \
    && pip uninstall --yes bitbeam \
    && rm -r build *.egg-info pipeline transforms README.md \
        /usr/local/lib/python${PYTHON}/site-packages/tensorflow/include

COPY README.md LICENSE ./
COPY pipeline ./pipeline
COPY transforms ./transforms
RUN pip install --no-deps . && pip check && python -c "import pipeline.run, pipeline.graph"

# What starts a worker, from the same version of Beam as was just installed.
COPY --from=sdk /opt/apache/beam /opt/apache/beam
RUN python -c "import sys, apache_beam as beam; \
    assert beam.__version__ == '${BEAM}', beam.__version__; \
    assert '%d.%d' % sys.version_info[:2] == '${PYTHON}', sys.version"

# What starts the job, as a Flex Template.
COPY --from=launcher /opt/google/dataflow/python_template_launcher /opt/google/dataflow/python_template_launcher
COPY template ./template
ENV FLEX_TEMPLATE_PYTHON_PY_FILE=/opt/bitbeam/template/main.py

# A model that workers need not fetch; a SavedModel as an archive. The default is no
# model: with an empty name COPY would take all files of the folder, other models too.
ARG MODEL=LICENSE
COPY ${MODEL} /opt/bitbeam/models/

# All packages are here: without this, every start makes a virtual environment first.
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1

# Dataflow needs root: it mounts folders of root's below /var/opt/google, and the
# launcher writes below /var/log. Elsewhere: --build-arg RUN_AS=bitbeam.
RUN useradd --system --uid 10001 --create-home bitbeam
ARG RUN_AS=root
USER ${RUN_AS}

ENTRYPOINT ["/opt/apache/beam/boot"]
