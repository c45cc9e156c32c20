"""CUB-200-2011."""

from magmax_jax.data.data_set import DataSet, FromTfds
from magmax_jax.inputs.prompts import OBJECTS
from magmax_jax.registry import DATA_SETS

# fmt: off
CLASS_NAMES = (
    "Black footed Albatross", "Laysan Albatross", "Sooty Albatross", "Groove billed Ani",
    "Crested Auklet", "Least Auklet", "Parakeet Auklet", "Rhinoceros Auklet", "Brewer Blackbird",
    "Red winged Blackbird", "Rusty Blackbird", "Yellow headed Blackbird", "Bobolink",
    "Indigo Bunting", "Lazuli Bunting", "Painted Bunting", "Cardinal", "Spotted Catbird",
    "Gray Catbird", "Yellow breasted Chat", "Eastern Towhee", "Chuck will Widow",
    "Brandt Cormorant", "Red faced Cormorant", "Pelagic Cormorant", "Bronzed Cowbird",
    "Shiny Cowbird", "Brown Creeper", "American Crow", "Fish Crow", "Black billed Cuckoo",
    "Mangrove Cuckoo", "Yellow billed Cuckoo", "Gray crowned Rosy Finch", "Purple Finch",
    "Northern Flicker", "Acadian Flycatcher", "Great Crested Flycatcher", "Least Flycatcher",
    "Olive sided Flycatcher", "Scissor tailed Flycatcher", "Vermilion Flycatcher",
    "Yellow bellied Flycatcher", "Frigatebird", "Northern Fulmar", "Gadwall", "American Goldfinch",
    "European Goldfinch", "Boat tailed Grackle", "Eared Grebe", "Horned Grebe", "Pied billed Grebe",
    "Western Grebe", "Blue Grosbeak", "Evening Grosbeak", "Pine Grosbeak", "Rose breasted Grosbeak",
    "Pigeon Guillemot", "California Gull", "Glaucous winged Gull", "Heermann Gull", "Herring Gull",
    "Ivory Gull", "Ring billed Gull", "Slaty backed Gull", "Western Gull", "Anna Hummingbird",
    "Ruby throated Hummingbird", "Rufous Hummingbird", "Green Violetear", "Long tailed Jaeger",
    "Pomarine Jaeger", "Blue Jay", "Florida Jay", "Green Jay", "Dark eyed Junco",
    "Tropical Kingbird", "Gray Kingbird", "Belted Kingfisher", "Green Kingfisher",
    "Pied Kingfisher", "Ringed Kingfisher", "White breasted Kingfisher", "Red legged Kittiwake",
    "Horned Lark", "Pacific Loon", "Mallard", "Western Meadowlark", "Hooded Merganser",
    "Red breasted Merganser", "Mockingbird", "Nighthawk", "Clark Nutcracker",
    "White breasted Nuthatch", "Baltimore Oriole", "Hooded Oriole", "Orchard Oriole",
    "Scott Oriole", "Ovenbird", "Brown Pelican", "White Pelican", "Western Wood Pewee", "Sayornis",
    "American Pipit", "Whip poor Will", "Horned Puffin", "Common Raven", "White necked Raven",
    "American Redstart", "Geococcyx", "Loggerhead Shrike", "Great Grey Shrike", "Baird Sparrow",
    "Black throated Sparrow", "Brewer Sparrow", "Chipping Sparrow", "Clay colored Sparrow",
    "House Sparrow", "Field Sparrow", "Fox Sparrow", "Grasshopper Sparrow", "Harris Sparrow",
    "Henslow Sparrow", "Le Conte Sparrow", "Lincoln Sparrow", "Nelson Sharp tailed Sparrow",
    "Savannah Sparrow", "Seaside Sparrow", "Song Sparrow", "Tree Sparrow", "Vesper Sparrow",
    "White crowned Sparrow", "White throated Sparrow", "Cape Glossy Starling", "Bank Swallow",
    "Barn Swallow", "Cliff Swallow", "Tree Swallow", "Scarlet Tanager", "Summer Tanager",
    "Artic Tern", "Black Tern", "Caspian Tern", "Common Tern", "Elegant Tern", "Forsters Tern",
    "Least Tern", "Green tailed Towhee", "Brown Thrasher", "Sage Thrasher", "Black capped Vireo",
    "Blue headed Vireo", "Philadelphia Vireo", "Red eyed Vireo", "Warbling Vireo",
    "White eyed Vireo", "Yellow throated Vireo", "Bay breasted Warbler", "Black and white Warbler",
    "Black throated Blue Warbler", "Blue winged Warbler", "Canada Warbler", "Cape May Warbler",
    "Cerulean Warbler", "Chestnut sided Warbler", "Golden winged Warbler", "Hooded Warbler",
    "Kentucky Warbler", "Magnolia Warbler", "Mourning Warbler", "Myrtle Warbler",
    "Nashville Warbler", "Orange crowned Warbler", "Palm Warbler", "Pine Warbler",
    "Prairie Warbler", "Prothonotary Warbler", "Swainson Warbler", "Tennessee Warbler",
    "Wilson Warbler", "Worm eating Warbler", "Yellow Warbler", "Northern Waterthrush",
    "Louisiana Waterthrush", "Bohemian Waxwing", "Cedar Waxwing", "American Three toed Woodpecker",
    "Pileated Woodpecker", "Red bellied Woodpecker", "Red cockaded Woodpecker",
    "Red headed Woodpecker", "Downy Woodpecker", "Bewick Wren", "Cactus Wren", "Carolina Wren",
    "House Wren", "Marsh Wren", "Rock Wren", "Winter Wren", "Common Yellowthroat",
)
# fmt: on

# fmt: off
CLASS_ORDER = (
    186, 157, 67, 59, 117, 1, 122, 14, 131, 40, 66, 199, 92, 170, 197, 118, 173, 37, 146, 191, 4,
    198, 64, 56, 51, 165, 0, 107, 175, 148, 187, 161, 137, 180, 133, 181, 177, 12, 20, 74, 143, 142,
    110, 116, 194, 138, 183, 89, 45, 121, 190, 94, 36, 83, 130, 120, 21, 38, 125, 145, 182, 103,
    105, 61, 32, 141, 13, 112, 111, 104, 26, 69, 39, 156, 147, 108, 72, 10, 96, 188, 16, 63, 152,
    86, 160, 119, 184, 7, 172, 132, 44, 42, 82, 15, 114, 127, 85, 168, 55, 65, 3, 95, 171, 176, 33,
    43, 17, 97, 163, 62, 75, 123, 128, 124, 99, 29, 28, 166, 41, 35, 76, 77, 5, 84, 102, 60, 78, 70,
    164, 113, 30, 91, 81, 18, 155, 179, 73, 46, 80, 31, 150, 79, 174, 153, 50, 144, 9, 167, 134,
    135, 101, 49, 106, 154, 23, 100, 48, 25, 71, 139, 162, 158, 159, 87, 90, 11, 24, 57, 19, 52,
    129, 140, 178, 53, 169, 195, 126, 47, 151, 136, 22, 58, 34, 8, 185, 54, 109, 193, 68, 192, 149,
    115, 98, 88, 93, 6, 196, 189, 2, 27,
)
# fmt: on

DATA_SETS.register(
    "cub200",
    DataSet(
        name="cub200",
        classes=200,
        train_size=5_994,
        test_size=5_794,
        templates=OBJECTS,
        epochs=30,
        class_names=CLASS_NAMES,
        naming="listed",
        drop=r"^\d+\.",
        class_order=CLASS_ORDER,
        tfds=FromTfds(builder="caltech_birds2011", packages=("cv2",)),
    ),
)
