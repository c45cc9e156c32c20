"""ImageNet-R."""

from magmax_jax.data.data_set import DataSet, FromTfds
from magmax_jax.data.seeded_split import SeededSplit
from magmax_jax.inputs.prompts import OBJECTS
from magmax_jax.registry import DATA_SETS

# fmt: off
CLASS_NAMES = (
    "African_chameleon", "Granny_Smith", "accordion", "acorn", "afghan_hound", "ambulance",
    "american_egret", "ant", "assault_rifle", "axolotl", "baboon", "backpack", "badger", "bagel",
    "bald_eagle", "banana", "barn", "baseball_player", "basketball", "basset_hound", "bathtub",
    "beagle", "beaver", "bee", "beer_glass", "bell_pepper", "binoculars", "birdhouse", "bison",
    "black_swan", "bloodhound", "border_collie", "boston_terrier", "bow_tie", "boxer", "broccoli",
    "broom", "bucket", "burrito", "cabbage", "candle", "cannon", "canoe", "carousel", "castle",
    "cauldron", "centipede", "cheeseburger", "cheetah", "chihuahua", "chimpanzee", "chow_chow",
    "clown_fish", "cobra", "cocker_spaniels", "cockroach", "collie", "cowboy_hat", "cucumber",
    "dalmatian", "dragonfly", "duck", "eel", "electric_guitar", "espresso", "fire_engine",
    "flamingo", "flute", "fly", "fox_squirrel", "french_bulldog", "gasmask", "gazelle",
    "german_shepherd_dog", "gibbon", "golden_retriever", "goldfinch", "goldfish", "goose",
    "gorilla", "grand_piano", "grasshopper", "great_white_shark", "grey_whale", "guillotine",
    "guinea_pig", "hammer", "hammerhead", "harmonica", "harp", "hatchet", "hen", "hermit_crab",
    "hippopotamus", "hotdog", "hummingbird", "husky", "hyena", "ice_cream", "iguana",
    "italian_greyhound", "jeep", "jellyfish", "joystick", "junco", "killer_whale", "king_penguin",
    "koala", "lab_coat", "labrador_retriever", "ladybug", "lawn_mower", "lemon", "leopard",
    "lighthouse", "lion", "lipstick", "llama", "lobster", "lorikeet", "mailbox", "mantis",
    "meerkat", "military_aircraft", "missile", "mitten", "mobile_phone", "monarch_butterfly",
    "mushroom", "newt", "orangutan", "ostrich", "panda", "parachute", "peacock", "pelican",
    "pembroke_welsh_corgi", "pickup_truck", "pig", "pineapple", "pirate_ship", "pizza",
    "polar_bear", "pomegranate", "pomeranian", "porcupine", "pretzel", "puffer_fish", "pug",
    "red_fox", "revolver", "rottweiler", "rugby_ball", "saint_bernard", "sandal", "saxophone",
    "scarf", "school_bus", "schooner", "scorpion", "scottish_terrier", "scuba_diver", "sea_lion",
    "shield", "shih_tzu", "skunk", "snail", "snow_leopard", "soccer_ball", "space_shuttle",
    "spider_web", "standard_poodle", "starfish", "steam_locomotive", "stingray", "strawberry",
    "submarine", "tabby_cat", "tank", "tarantula", "tennis_ball", "tiger", "timber_wolf", "toucan",
    "toy_poodle", "tractor", "tree_frog", "trombone", "vase", "violin", "volcano", "vulture",
    "weimaraner", "west_highland_white_terrier", "wheelbarrow", "whippet", "wine_bottle",
    "wood_rabbit", "yorkshire_terrier", "zebra",
)
# fmt: on

# fmt: off
WORDNET_IDS = (
    "n01694178", "n07742313", "n02672831", "n12267677", "n02088094", "n02701002", "n02009912",
    "n02219486", "n02749479", "n01632777", "n02486410", "n02769748", "n02447366", "n07693725",
    "n01614925", "n07753592", "n02793495", "n09835506", "n02802426", "n02088238", "n02808440",
    "n02088364", "n02363005", "n02206856", "n02823750", "n07720875", "n02841315", "n02843684",
    "n02410509", "n01860187", "n02088466", "n02106166", "n02096585", "n02883205", "n02108089",
    "n07714990", "n02906734", "n02909870", "n07880968", "n07714571", "n02948072", "n02950826",
    "n02951358", "n02966193", "n02980441", "n02939185", "n01784675", "n07697313", "n02130308",
    "n02085620", "n02481823", "n02112137", "n02607072", "n01748264", "n02102318", "n02233338",
    "n02106030", "n03124170", "n07718472", "n02110341", "n02268443", "n01847000", "n02526121",
    "n03272010", "n07920052", "n03345487", "n02007558", "n03372029", "n02190166", "n02356798",
    "n02108915", "n03424325", "n02423022", "n02106662", "n02483362", "n02099601", "n01531178",
    "n01443537", "n01855672", "n02480855", "n03452741", "n02226429", "n01484850", "n02066245",
    "n03467068", "n02364673", "n03481172", "n01494475", "n03494278", "n03495258", "n03498962",
    "n01514859", "n01986214", "n02398521", "n07697537", "n01833805", "n02110185", "n02117135",
    "n07614500", "n01677366", "n02091032", "n03594945", "n01910747", "n03602883", "n01534433",
    "n02071294", "n02056570", "n01882714", "n03630383", "n02099712", "n02165456", "n03649909",
    "n07749582", "n02128385", "n02814860", "n02129165", "n03676483", "n02437616", "n01983481",
    "n01820546", "n03710193", "n02236044", "n02138441", "n04552348", "n03773504", "n03775071",
    "n02992529", "n02279972", "n07734744", "n01630670", "n02480495", "n01518878", "n02510455",
    "n03888257", "n01806143", "n02051845", "n02113023", "n03930630", "n02395406", "n07753275",
    "n03947888", "n07873807", "n02134084", "n07768694", "n02112018", "n02346627", "n07695742",
    "n02655020", "n02110958", "n02119022", "n04086273", "n02106550", "n04118538", "n02109525",
    "n04133789", "n04141076", "n04325704", "n04146614", "n04147183", "n01770393", "n02097298",
    "n10565667", "n02077923", "n04192698", "n02086240", "n02445715", "n01944390", "n02128757",
    "n04254680", "n04266014", "n04275548", "n02113799", "n02317335", "n04310018", "n01498041",
    "n07745940", "n04347754", "n02123045", "n04389033", "n01774750", "n04409515", "n02129604",
    "n02114367", "n01843383", "n02113624", "n04465501", "n01644373", "n04487394", "n04522168",
    "n04536866", "n09472597", "n01616318", "n02092339", "n02098286", "n02797295", "n02091134",
    "n04591713", "n02325366", "n02094433", "n02391049",
)
# fmt: on
"""WordNet ids of the class names, in the same order."""

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

# fmt: off
DOMAIN_NAMES = (
    "tattoo", "sketch", "graphic", "painting", "art", "origami", "sculpture", "graffiti", "cartoon",
    "misc", "toy", "embroidery", "videogame", "sticker", "deviantart",
)
# fmt: on

DATA_SETS.register(
    "imagenet_r",
    DataSet(
        name="imagenet_r",
        classes=200,
        train_size=24_000,
        test_size=6_000,
        templates=OBJECTS,
        class_names=CLASS_NAMES,
        wordnet_ids=WORDNET_IDS,
        class_order=CLASS_ORDER,
        domain_names=DOMAIN_NAMES,
        tfds=FromTfds(
            builder="imagenet_r",
            train="test",
            split=SeededSplit(
                by_class=False,
                key="file_name",
                fingerprint="c4ec4f0e78cfe0dd176ce3f46caeca6bdb19d104554045cdb4be9fd3d6c95073",
            ),
            domains="file name",
        ),
    ),
)
