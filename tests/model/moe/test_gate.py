import torch

from moe_pipeline.model.moe.gate import Gate, GateConfig, OODDetector, gate_features


def test_features_are_pooled_by_hand() -> None:
    embedding = torch.zeros(1, 2, 2, 2, 2)
    embedding[0, 0, 1, 0, 1] = 8.0
    sparse = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])  # two clicks
    dense = torch.full((1, 2, 2, 2, 2), 5.0)
    coordinates = torch.tensor(
        [[[5.5, 3.5, 2.5], [1.5, 3.5, 0.5]]]
    )  # centres of tokens (1,0,1) and (0,0,0) of a crop of 8 x 16 x 4 voxels
    features = gate_features(embedding, sparse, dense, (coordinates, torch.tensor([[1, 1]])), size=(8, 16, 4))
    assert features.shape == (1, 10)
    mean, std, clicks, prompt, mask = features[0].view(5, 2)
    assert mean.tolist() == [1.0, 0.0]
    assert torch.isclose(std[0], torch.tensor([8.0] + [0.0] * 7).std())
    assert torch.allclose(clicks, torch.tensor([4.0, 0.0]))
    assert prompt.tolist() == [2.0, 3.0]
    assert mask.tolist() == [5.0, 5.0]
    for labels, expected in (([1, 0], 8.0), ([0, 1], 0.0), ([0, 0], 4.0)):  # where it is inside, if anywhere
        features = gate_features(embedding, sparse, dense, (coordinates, torch.tensor([labels])), size=(8, 16, 4))
        assert torch.allclose(features[0].view(5, 2)[2], torch.tensor([expected, 0.0]))


def test_one_embedding_serves_many_prompts() -> None:
    torch.manual_seed(0)
    embedding, sparse, dense = torch.randn(1, 3, 4, 4, 4), torch.randn(5, 3, 3), torch.randn(5, 3, 4, 4, 4)
    coordinates, labels = torch.rand(5, 2, 3) * 15, torch.tensor([[1, 0]] * 5)
    shared = gate_features(embedding, sparse, dense, (coordinates, labels), (16, 16, 16))
    single = gate_features(embedding, sparse[3:4], dense[3:4], (coordinates[3:4], labels[3:4]), (16, 16, 16))
    assert torch.allclose(shared[3:4], single, atol=1e-6)


def test_weights_sum_to_one_and_temperature_softens_them() -> None:
    torch.manual_seed(0)
    gate = Gate(GateConfig(width=4, n_experts=2, hidden=8)).requires_grad_(False)
    features = torch.randn(6, 20)
    sharp = gate.weights(features)
    gate.temperature.fill_(10.0)
    soft = gate.weights(features)
    assert torch.allclose(sharp.sum(1), torch.ones(6))
    assert (soft.max(1).values < sharp.max(1).values).all()


def test_standardised_features_have_the_same_say_whatever_their_range() -> None:
    torch.manual_seed(0)
    gate = Gate(GateConfig(width=2, n_experts=1, hidden=4)).requires_grad_(False)
    features = torch.randn(6, 10)
    stretch, shift = torch.logspace(-3, 3, 10), torch.arange(10.0)
    plain = gate(features)
    gate.standardise(shift, stretch)
    assert torch.allclose(gate(features * stretch + shift), plain, atol=1e-4)
    gate.standardise(shift, torch.zeros(10))  # features that never change
    assert torch.isfinite(gate(features)).all()


def test_the_ood_detector_knows_its_own_and_rejects_unlike_images() -> None:
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(5, 30, generator=generator)
    own = torch.randn(400, 5, generator=generator) @ directions + 0.1 * torch.randn(400, 30, generator=generator)
    ood_detector = OODDetector.fit(own[:300], rank=8)
    ood_detector.limit.copy_(torch.quantile(ood_detector.distance(own[:300]), 0.995) * 1.1)
    assert ood_detector.knows(own[300:]).float().mean() > 0.97
    shifted = own[300:] + 3.0
    assert ood_detector.knows(shifted).float().mean() < 0.03
    assert abs(float(ood_detector.distance(own[:300]).square().mean()) - 1) < 0.6


def test_the_ood_detector_works_with_fewer_samples_than_features() -> None:
    samples = torch.randn(10, 50, generator=torch.Generator().manual_seed(1))
    ood_detector = OODDetector.fit(samples, rank=32)
    assert ood_detector.whitener.shape == (50, 9)
    assert torch.isfinite(ood_detector.distance(samples)).all()


def test_the_ood_detector_looks_at_the_image_part_only() -> None:
    generator = torch.Generator().manual_seed(2)
    image = torch.randn(60, 8, generator=generator)
    ood_detector = OODDetector.fit(image, rank=4)
    prompts = torch.randn(60, 12, generator=generator) * 100
    assert torch.equal(ood_detector.distance(image), ood_detector.distance(torch.cat([image, prompts], dim=1)))
