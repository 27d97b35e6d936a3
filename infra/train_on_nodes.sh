#!/bin/sh
# Train the network on several machines at once, each running this script with another MACULA_NODE, from 0 on.
#
# Each machine clones a commit, pulls the prepared images from the DVC remote (pixels and tar shards, no image files), and
# joins the training of torchrun. Node 0 pushes data/train to the remote and dvc.lock to the branch MACULA_BRANCH, from
# which `dvc repro` continues with `evaluate`. infra/kubernetes-training runs this in pods.
set -eu
: "${MACULA_REPOSITORY:?URL of the git repository}" "${MACULA_REVISION:?commit whose dvc.lock has prepared images}"
: "${MACULA_BRANCH:?branch for the result}" "${MACULA_NODES:?number of machines}" "${MACULA_NODE:?number of this one}"
: "${MACULA_FIRST:?host name of node 0}"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
git clone --quiet --no-checkout "$MACULA_REPOSITORY" "$folder"
cd "$folder"
git checkout --quiet "$MACULA_REVISION"
if [ -n "${MACULA_REMOTE:-}" ]; then
  dvc remote add --quiet --local --default --force training "$MACULA_REMOTE"
  dvc config --quiet --local remote.training.verify true
fi
dvc pull --quiet data/code data/params.resolved.yaml data/ingest data/prepare data/tune
torchrun --nnodes "$MACULA_NODES" --nproc-per-node "${MACULA_PROCESSES:-1}" --node-rank "$MACULA_NODE" \
  --master-addr "$MACULA_FIRST" --master-port "${MACULA_PORT:-29500}" \
  -m stages.train data/ingest data/prepare data/tune data/weights data/train
[ "$MACULA_NODE" = 0 ] || exit 0
dvc commit --quiet --force train
dvc push --quiet train
git add dvc.lock
git -c user.name="${GIT_AUTHOR_NAME:-Macula}" -c user.email="${GIT_AUTHOR_EMAIL:-macula@localhost}" \
  commit --quiet --message "Train on $MACULA_NODES machines"
git push --quiet origin "HEAD:refs/heads/$MACULA_BRANCH"
echo "trained on $MACULA_NODES machines: branch $MACULA_BRANCH"
