# The front door. Every job is a target; the work is done by docker/*.sh (Caffe) and tools/*.py (everything else).
# `make help` lists the targets and their variables.

PYTHON   ?= /usr/bin/python3
VENV     := .venv
PY       := $(VENV)/bin/python

VARIANT  ?= vgg16
MANIFEST ?= data/manifest.csv
IMAGES   ?= data/images
LABELS   ?= data/labels.csv
LMDB     ?= data/lmdb
ABLATION ?= demo
RUN      ?= runs/$(VARIANT)
SEED     ?= 2015
JOBS     ?= $(shell nproc)
export JOBS
# Huge pages behind large values, also where the system gives them on request only: nets are 5 to 10 % faster there.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

# Only what was set on the command line or in the environment becomes a flag.
train_flags = $(if $(GPU),--gpu $(GPU)) $(if $(RESUME),--resume) $(if $(REPLACE),--replace) $(if $(EPOCHS),--epochs $(EPOCHS)) \
              $(if $(BATCH),--batch $(BATCH)) $(if $(SOLVER),--solver $(SOLVER)) $(if $(WEIGHTS),--weights $(WEIGHTS)) $(TRAIN_FLAGS)
one_gpu     = $(if $(GPU),--gpu $(firstword $(subst $(comma), ,$(GPU))))
comma       := ,

.DEFAULT_GOAL := help
.PHONY: help setup system caffe caffe-test weights label faces lmdb train eval report score compare ablation \
        reach demo figures-run prototxt test bench bench-gpu gpu-bundle lint clean distclean

help: ## list the targets
	@echo "The selfie experiment of 2015 on real Caffe. On a fresh Debian 12:  make demo"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-20s %s\n", $$1, $$2}'
	@echo
	@echo "Variables (now): VARIANT=$(VARIANT) MANIFEST=$(MANIFEST) IMAGES=$(IMAGES) LABELS=$(LABELS)"
	@echo "  LMDB=$(LMDB) RUN=$(RUN) SEED=$(SEED) JOBS=$(JOBS) PYTHON=$(PYTHON)"
	@echo "  GPU=0            train and score on that GPU (0,1: train on both); makes Caffe a GPU build if it is none"
	@echo "  CUDA=13          caffe: build for GPUs, with that toolkit; 11.8 for the K40 and its time; 0: for CPUs again"
	@echo "  ARCH='80 90'     caffe: for GPUs of these architectures (without: this machine's, or else 90; CUDA=11.8: 35)"
	@echo "  CUDNN=0 NCCL=1   caffe: without cuDNN; with NCCL, for several GPUs. These four hold until asked for otherwise"
	@echo "  BATCH=16         train: pictures per pass on each GPU (GPU=0,1 reads two batches for a step)"
	@echo "  RESUME=1         train: go on from the newest snapshot"
	@echo "  REPLACE=1        train: remove an older run of that name first"
	@echo "  EPOCHS=3         train: passes over the training selfies (sets max_iter)"
	@echo "  WEIGHTS=file     train: another caffemodel to start from ('none': from scratch)"
	@echo "  SOLVER=file      train: another solver"
	@echo "  CROPS='a.jpg b'  report: pictures to find the best crops of"
	@echo "  LABEL_FLAGS, FACE_FLAGS, LMDB_FLAGS, TRAIN_FLAGS, GRID_FLAGS, MAP_FLAGS    more flags for the command behind a target"
	@echo "  SELFIE_MIRROR=dir      look for downloads (weights, published figures) here first"
	@echo "  CAFFE_TARBALL=file     Caffe's source, where it cannot be downloaded"

# In the images of docker/ all is there, and nobody could install more.
setup: $(if $(PREBUILT),,system $(VENV)/.installed caffe) ## install system packages, .venv and Caffe (does only what is missing)

system:
	@docker/setup_system.sh

$(VENV)/.installed: requirements.txt requirements-map.txt requirements-dev.txt pyproject.toml | system
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

caffe: $(VENV)/.installed ## build Caffe from its pinned source with our patches into build/
	@docker/build_caffe.sh caffe

caffe-test: caffe ## build and run upstream's own tests of Caffe and pycaffe
	@docker/build_caffe.sh test

weights: setup ## fetch pretrained weights: VARIANT=vgg16, vgg_face, squeezenet or mtcnn
	$(PY) tools/fetch_weights.py $(VARIANT)

faces: setup ## keep the selfies with a face: MANIFEST -> data/with_faces.csv
	$(PY) tools/filter_faces.py --manifest $(MANIFEST) --images $(IMAGES) --out data/with_faces.csv --jobs $(JOBS) \
	      $(FACE_FLAGS)

label: setup ## label good and bad by likes, normalised by audience: MANIFEST -> LABELS
	$(PY) tools/label.py --manifest $(MANIFEST) --images $(IMAGES) --out $(LABELS) --seed $(SEED) $(LABEL_FLAGS)

lmdb: setup ## build the train, val and test databases: LABELS, IMAGES -> LMDB
	$(PY) tools/make_lmdb.py --labels $(LABELS) --images $(IMAGES) --out $(LMDB) --seed $(SEED) --jobs $(JOBS) \
	      $(LMDB_FLAGS)

train: setup ## finetune VARIANT on LMDB in RUN (GPU=0 RESUME=1 REPLACE=1 EPOCHS=n)
	$(PY) tools/train.py --variant $(VARIANT) $(if $(RESUME),,--lmdb $(LMDB)) --run $(RUN) $(train_flags)

eval: setup ## accuracy, AUC and plots of RUN on its test selfies
	$(PY) tools/evaluate.py --run $(RUN) $(one_gpu)

report: setup ## everything the post shows, as a page: grids, findings, crops, map, filters of RUN
	$(PY) tools/evaluate.py --run $(RUN) $(one_gpu)
	$(PY) tools/grids.py continuum --run $(RUN) $(GRID_FLAGS)
	$(PY) tools/grids.py best --run $(RUN) $(GRID_FLAGS)
	$(PY) tools/grids.py worst --run $(RUN) $(GRID_FLAGS)
	$(PY) tools/grids.py posneg --run $(RUN)
	$(PY) tools/findings.py --run $(RUN) $(if $(wildcard $(MANIFEST)),--manifest $(MANIFEST)) --jobs $(JOBS)
	$(if $(CROPS),$(PY) pycaffe_scripts/crops.py --run $(RUN) $(one_gpu) $(CROPS))
	$(PY) tools/tsne_map.py --run $(RUN) $(one_gpu) $(MAP_FLAGS)
	$(PY) pycaffe_scripts/filters.py --run $(RUN) $(one_gpu)
	$(PY) tools/report.py --run $(RUN)

compare: setup ## hold RUN against the original: the published figures as a test set, the protocol
	$(PY) tools/fetch_weights.py squeezenet
	$(PY) tools/compare_paper.py --run $(RUN) --download $(one_gpu)

ablation: setup ## the post's ablations of ABLATION=demo, squeezenet or vgg16: dropout, start weights, several seeds
	$(PY) tools/ablations.py --net $(ABLATION) $(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(GPU),--gpu $(GPU))

score: setup ## score IMAGES (a file or a folder) with RUN, best first
	$(PY) tools/score.py --run $(RUN) $(one_gpu) --sort $(IMAGES)

# --- the two real runs of the README ------------------------------------------------------------------------------

DEMO := data/demo

demo: setup ## the whole job on a generated corpus: corpus, faces, labels, LMDB, training, evaluation, picture
	$(PY) tools/demo_corpus.py --out $(DEMO)/pretraining --pretraining
	$(PY) tools/make_lmdb.py --labels $(DEMO)/pretraining/labels.csv --images $(DEMO)/pretraining/images \
	      --out $(DEMO)/pretraining-lmdb --raw --force
	$(PY) tools/train.py --variant demo_pretrain --run runs/demo_pretrain --replace $(one_gpu)
	$(PY) tools/demo_corpus.py --out $(DEMO)/corpus
	$(PY) tools/filter_faces.py --manifest $(DEMO)/corpus/manifest.csv --images $(DEMO)/corpus/images \
	      --out $(DEMO)/with_faces.csv --detector lbp
	$(PY) tools/label.py --manifest $(DEMO)/with_faces.csv --images $(DEMO)/corpus/images --out $(DEMO)/labels.csv \
	      --as-of 2015-10-25 --split 0.7,0.1,0.2
	$(PY) tools/make_lmdb.py --labels $(DEMO)/labels.csv --images $(DEMO)/corpus/images --out $(DEMO)/lmdb --force
	$(PY) tools/train.py --variant demo --lmdb $(DEMO)/lmdb --run runs/demo --replace $(one_gpu)
	$(MAKE) --no-print-directory report RUN=runs/demo MANIFEST=$(DEMO)/with_faces.csv \
	      CROPS="$$(ls $(DEMO)/corpus/images/s*.jpg | head -6 | tr '\n' ' ')"
	$(PY) tools/demo_corpus.py --out $(DEMO)/corpus --best $(DEMO)/labels.csv

figures-run: setup ## SqueezeNet on the post's own published tiles (found in SELFIE_MIRROR, or downloaded)
	$(PY) tools/fetch_weights.py squeezenet
	$(PY) tools/cut_figures.py --out data/figures
	$(PY) tools/make_lmdb.py --labels data/figures/labels.csv --images data/figures/tiles --out data/figures/lmdb --raw \
	      --force
	$(PY) tools/train.py --variant squeezenet --lmdb data/figures/lmdb --run runs/figures --solver solver/figures.prototxt \
	      --replace $(one_gpu)
	$(PY) tools/compare_paper.py --run runs/figures $(one_gpu)
	$(MAKE) --no-print-directory report RUN=runs/figures MANIFEST= GRID_FLAGS="--rows 4 --columns 5" \
	      MAP_FLAGS="--perplexity 15" CROPS="$$(ls $(VENV)/lib/python3*/site-packages/skimage/data/astronaut.png)"

reach: setup ## order the published continuum by nets that saw only its best and worst: half an hour
	$(PY) tools/reach.py

# --- for developers ------------------------------------------------------------------------------------------------

prototxt: setup ## write the generated files of prototxt/ anew
	$(PY) tools/make_prototxt.py

test: setup ## run the tests (after all set-up)
	$(PY) -m pytest

bench: setup ## measure everything beside its peers: table, build/bench/bench.json (QUICK=1: minutes)
	$(PY) tools/bench.py $(if $(QUICK),--quick)

bench-gpu: setup ## measure a GPU build beside PyTorch on the same card (GPU=0, TORCH=a Python that has it)
	$(PY) tools/bench_gpu.py $(if $(GPU),--device $(firstword $(subst $(comma), ,$(GPU)))) $(if $(QUICK),--quick) \
	      $(if $(TORCH),--torch $(TORCH))

gpu-bundle: setup ## pack a GPU build for a machine that has CUDA and PyTorch, in parts of 60 MiB: build/gpu-bundle
	$(PY) tools/gpu_bundle.py

lint: $(VENV)/.installed ## ruff, and the generated prototxts against their generator
	$(VENV)/bin/ruff check
	$(PY) tools/make_prototxt.py --check

clean: ## remove caches; keep .venv, build, data, weights and runs
	find . -name __pycache__ -not -path './.venv/*' -not -path './build/*' -prune -exec rm -r {} +
	rm -rf .pytest_cache .ruff_cache

distclean: clean ## remove .venv and build as well; data, weights and runs are yours and stay
	rm -rf .venv build tools/*.egg-info
